"""A page in a real headless browser: read its text, take screenshots, click and type."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import requests
from websockets.sync.client import ClientConnection, connect

from tests.stack.processes import Server, signals_held
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--force-prefers-reduced-motion",
    "--remote-debugging-port=0",
)
# The visible elements that match a selector and, if given, a text or label. The innermost element comes last, since the
# elements around it have the same text.
FIND = """
(selector, text) => [...document.querySelectorAll(selector)].filter(
    (each) => each.getClientRects().length && (!text || [each.innerText?.trim(), each.ariaLabel].includes(text))
)
"""
# Of a link that is wrapped, the center of the first line: that of the whole box can be outside of the link.
CENTER = """
(each) => {
    each.scrollIntoView({block: "center", behavior: "instant"});
    const box = each.getClientRects()[0];
    return [box.x + box.width / 2, box.y + box.height / 2];
}
"""
# A busy browser can need longer than any fixed time to draw what has changed, such as the position of a link.
TWO_FRAMES = "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))"
# An element that the page replaces between the press and the release of the mouse button gets no click.
AWAIT_CLICK = """
(each) => {
    window.clickIsMissed = true;
    each.addEventListener("click", () => { window.clickIsMissed = false; }, {capture: true, once: true});
}
"""
IS_MISSED = "window.clickIsMissed === true"
# Airflow's pages have a hidden progress bar that moves for ever, for which the browser needs a tenth of a core.
END_ANIMATIONS = """
const sheet = new CSSStyleSheet();
sheet.replaceSync("*, ::before, ::after { animation-iteration-count: 1 !important; }");
document.adoptedStyleSheets.push(sheet);
"""
MOVING = """
document.getAnimations().some((each) => each.playState === "running" && isFinite(each.effect.getTiming().iterations))
"""
SELECT = "(each) => { each.focus(); each.select?.(); return document.activeElement === each; }"
TEXT = "(each) => each.innerText"
VALUE = "(each) => each.value"
IN_FRAME = "(each) => each.contentDocument?.body?.innerText ?? ''"


class BrowserError(Exception):
    """There is no browser, or it failed to execute a command."""


class Page:
    """A page, controlled with the browser's DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    def text(self) -> str:
        """Return the visible text of the page."""
        return str(self._value("document.body?.innerText") or "")

    def wait_until(self, shows: Callable[[str], bool]) -> str:
        """Wait until the text of the page fulfills a condition; return the text, which may be different soon."""
        return wait_until(
            lambda: text if shows(text := self.text()) else None, lambda: f"the page shows:\n{self.text()}\n"
        )

    def open(self, url: str) -> None:
        """Go to another page."""
        self._call("Page.navigate", url=url)

    def run_on_every_page(self, script: str) -> None:
        """Run a JavaScript at the start of every page that is opened from now on."""
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def look(self, selector: str, text: str = "", see: str = TEXT) -> list[Any]:
        """Return the result of a JavaScript function for each matching visible element.

        :param selector: CSS selector.
        :param text: the whole text, or the ARIA label, that the element must have.
        :param see: the function.
        """
        found: list[Any] = self._value(f"({FIND})({json.dumps(selector)}, {json.dumps(text)}).map({see})")
        return found

    def find(self, selector: str, text: str = "", see: str = TEXT) -> list[Any]:
        """Wait for an element, and return the result of :meth:`look`."""
        complaint = f"no {selector} {text!r} on a page that shows:\n"
        return wait_until(lambda: self.look(selector, text, see) or None, lambda: f"{complaint}{self.text()}\n")

    def click(self, selector: str, text: str = "") -> None:
        """Wait until an element exists and has stopped moving, and click its center; again if the click is missed."""

        def try_to_click() -> bool | None:
            before, places = None, self.find(selector, text, CENTER)
            while before != places[-1]:
                with contextlib.suppress(BrowserError):
                    self._value(TWO_FRAMES)
                before, places = places[-1], self.find(selector, text, CENTER)
            x, y = places[-1]
            self.find(selector, text, AWAIT_CLICK)
            for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
                self._call(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1
                )
            # A new page that takes the place of this one has not got the click itself.
            with contextlib.suppress(BrowserError):
                return None if self._value(IS_MISSED) else True
            return True

        wait_until(try_to_click, f"{selector} {text!r} gets no click")

    def enter(self, selector: str, text: str) -> None:
        """Wait for a field that accepts input, and replace its content by typing a text; again if a part is missing."""

        def try_to_enter() -> bool | None:
            # Airflow disables a field while it loads what can be selected in it.
            if not self.find(selector, see=SELECT)[-1]:
                return None
            for character in text:
                self._call("Input.dispatchKeyEvent", type="char", text=character)
            # Airflow adds spaces to JSON.
            return "".join(self.find(selector, see=VALUE)[-1].split()) == "".join(text.split()) or None

        wait_until(try_to_enter, f"{selector} does not accept {text!r}")

    def press_enter(self) -> None:
        """Press the Enter key."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self._call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        self._call("Input.dispatchKeyEvent", type="keyUp", **key)

    @contextlib.contextmanager
    def emulated(self, *, scheme: str = "light", size: tuple[int, int] | None = None) -> Iterator[None]:
        """Let the page be in another window until the block ends.

        :param scheme: what the user prefers, ``light`` or ``dark``.
        :param size: size of the window in pixels; ``None``: as it is.
        """
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        if size is not None:
            width, height = size
            self._call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
        try:
            yield
        finally:
            self._call("Emulation.clearDeviceMetricsOverride")
            self._call("Emulation.setEmulatedMedia", features=[])

    def save_downloads(self, folder: Path) -> None:
        """Let the browser save what it downloads from now on in a folder, without a question."""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def save_picture(self, path: Path, box: Sequence[float] | None = None) -> None:
        """Save a screenshot to a PNG file when the page has stopped moving.

        :param box: left, top, right and bottom edge in the window, in pixels; ``None``: all of it.
        """
        deadline = time.monotonic() + 1.0
        while self._value(MOVING) and time.monotonic() < deadline:
            time.sleep(0.1)
        part = {}
        if box is not None:
            width, height = self._value("[window.innerWidth, window.innerHeight]")
            x, y, right, bottom = box
            part["clip"] = {
                "x": max(x, 0),
                "y": max(y, 0),
                "width": min(right, width) - max(x, 0),
                "height": min(bottom, height) - max(y, 0),
                "scale": 1,
            }
        answer = self._call("Page.captureScreenshot", format="png", **part)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _value(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=PATIENCE))
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result


@contextlib.contextmanager
def browser_page(url: str, directory: Path, size: tuple[int, int] = (1600, 1000)) -> Iterator[Page]:
    """Open a page in a new browser until the block ends.

    :param directory: new directory for the browser's profile and output.
    :param size: size of the window in pixels.
    :raises BrowserError: if no browser is installed, or it does not start.
    """
    executable = next((found for name in NAMES if (found := shutil.which(name))), None)
    if executable is None:
        raise BrowserError(f"none of {', '.join(NAMES)} is on PATH; on Debian: apt-get install chromium")
    profile = directory / "profile"
    flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}")
    with contextlib.ExitStack() as stack:
        with signals_held():
            command = (executable, *flags, "about:blank")
            server = Server(
                command, name="the browser", env=os.environ, cwd=directory, output=directory / "browser.log"
            )
            stack.callback(server.stop)
        page = Page(stack.enter_context(connect(_debugger(profile), max_size=None, proxy=None)))
        page.run_on_every_page(END_ANIMATIONS)
        page.open(url)
        yield page


def _debugger(profile: Path) -> str:
    """Wait for the page, and return the address of its debugger."""

    def look() -> str | None:
        with contextlib.suppress(OSError, IndexError, requests.RequestException), requests.Session() as session:
            session.trust_env = False
            port = (profile / "DevToolsActivePort").read_text(encoding="utf-8").split()[0]
            for target in session.get(f"http://127.0.0.1:{port}/json/list", timeout=10).json():
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
        return None

    return wait_until(look, "the browser has no page")
