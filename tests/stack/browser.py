"""A page in a real headless browser: read its text, take screenshots, click and type."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

from tests.runner.environments import WORK
from tests.stack.devtools import Browser, BrowserError, PageLeftError
from tests.stack.watch import ServerDiedError, WaitError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

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
WINDOW = "[window.innerWidth, window.innerHeight]"
TEXT = "(each) => each.innerText"
VALUE = "(each) => each.value"
IN_FRAME = "(each) => each.contentDocument?.body?.innerText ?? ''"
FAILED = WORK / "reports" / "failed"
"""Has a picture of each page that was open when a test failed."""
_open: list[Page] = []


class Page:
    """A page, controlled with the browser's DevTools protocol."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

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
        self._browser.open(url)

    def run_on_every_page(self, script: str) -> None:
        """Run a JavaScript at the start of every page that is opened from now on."""
        self._browser.run_on_every_page(script)

    def look(self, selector: str, text: str = "", see: str = TEXT) -> list[Any]:
        """Return the result of a JavaScript function, or of its promise, for each matching visible element.

        :param selector: CSS selector.
        :param text: the whole text, or the ARIA label, that the element must have.
        :param see: the function.
        """
        found: list[Any] = self._value(f"Promise.all(({FIND})({json.dumps(selector)}, {json.dumps(text)}).map({see}))")
        return found

    def texts(self, selectors: Sequence[str]) -> list[str | None]:
        """Return the text of the innermost match of each selector, all of the same moment.

        The text of a frame is that of its main part.
        """
        shown = "(each) => each?.contentDocument ? each.contentDocument.querySelector('main') : each"
        last = f"({shown})(({FIND})(selector, '').at(-1))?.innerText ?? null"
        found: list[str | None] = self._value(f"{json.dumps(list(selectors))}.map((selector) => {last})")
        return found

    def find(self, selector: str, text: str = "", see: str = TEXT) -> list[Any]:
        """Wait for an element, and return the result of :meth:`look`."""
        complaint = f"no {selector} {text!r} on a page that shows:\n"
        return wait_until(lambda: self.look(selector, text, see) or None, lambda: f"{complaint}{self.text()}\n")

    def wait_for(self, selector: str, expected: list[Any], text: str = "", see: str = TEXT) -> None:
        """Wait until the result of :meth:`look` is exactly this one."""
        found: list[Any] = []

        def look() -> bool | None:
            nonlocal found
            found = self.look(selector, text, see)
            return found == expected or None

        wait_until(look, lambda: f"{selector} {text!r} is {found}, not {expected}; the page shows:\n{self.text()}\n")

    def click(self, selector: str, text: str = "") -> None:
        """Wait until an element exists and has stopped moving, and click its center; again if the click is missed."""

        def try_to_click() -> bool | None:
            before, places = None, self.find(selector, text, CENTER)
            while before != places[-1]:
                self._value(TWO_FRAMES)
                before, places = places[-1], self.find(selector, text, CENTER)
            x, y = places[-1]
            self.find(selector, text, AWAIT_CLICK)
            # The click may make the browser leave the page at once.
            with contextlib.suppress(PageLeftError):
                self.click_at(x, y)
            # A new page that takes the place of this one has not got the click itself.
            return None if self._value(IS_MISSED) else True

        wait_until(try_to_click, f"{selector} {text!r} gets no click")

    def click_at(self, x: float, y: float) -> None:
        """Click a place of the window, in pixels, such as one in a frame."""
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def enter(self, selector: str, text: str) -> None:
        """Wait for a field that accepts input, and replace its content by a text; again if it does not keep it."""

        def try_to_enter() -> bool | None:
            # Airflow disables a field while it loads what can be selected in it.
            if not self.find(selector, see=SELECT)[-1]:
                return None
            self._call("Input.insertText", text=text)
            # The page may replace what was entered when it draws the field again.
            self._value(TWO_FRAMES)
            # Airflow adds spaces to JSON.
            return "".join(self.find(selector, see=VALUE)[-1].split()) == "".join(text.split()) or None

        wait_until(try_to_enter, f"{selector} does not accept {text!r}")

    def choose(self, selector: str, option: str) -> None:
        """Choose an option of the list of a field: enter it, and press Enter when the list has it."""
        self.enter(selector, option)
        self.find("[role=option]", option)
        self.press_enter()

    def press_enter(self) -> None:
        """Press the Enter key."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self._call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        self._call("Input.dispatchKeyEvent", type="keyUp", **key)

    @contextlib.contextmanager
    def resized(self, width: int, height: int) -> Iterator[None]:
        """Let the page be in a window of another size, in pixels, until the block ends."""
        before = self._value(WINDOW)
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        try:
            self._wait_for_window([width, height])
            yield
        finally:
            self._call("Emulation.clearDeviceMetricsOverride")
        self._wait_for_window(before)

    def _wait_for_window(self, expected: list[Any]) -> None:
        wait_until(lambda: self._value(WINDOW) == expected or None, lambda: f"the window is not {expected}")

    @property
    def pid(self) -> int:
        """The id of the browser's first process."""
        return self._browser.pid

    def crash(self) -> None:
        """Kill the process of the page."""
        self._call("Page.crash")

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
            width, height = self._value(WINDOW)
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
        """Return the value of a JavaScript expression, or of its promise; in the next page if this one is left."""

        def evaluate() -> tuple[Any] | None:
            with contextlib.suppress(PageLeftError):
                return (self._evaluate(expression),)
            return None

        (value,) = wait_until(evaluate, f"every page is left before it answers {expression}")
        return value

    def _evaluate(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, **params)


@contextlib.contextmanager
def browser_page(url: str, directory: Path, size: tuple[int, int] = (1600, 1000)) -> Iterator[Page]:
    """Open a page in a new browser until the block ends.

    If the browser dies, the test that uses it fails with :class:`~tests.stack.devtools.BrowserDiedError`, and those
    that follow use another browser, which shows the same address.

    :param directory: new directory for the browser's profile and output.
    :param size: size of the window in pixels.
    :raises BrowserError: if no browser is installed, or it does not start.
    """
    browser = Browser(directory, size, url)
    browser.run_on_every_page(END_ANIMATIONS)
    with contextlib.ExitStack() as stack:
        stack.callback(browser.stop)
        browser.start()
        page = Page(browser)
        _open.append(page)
        stack.callback(_open.remove, page)
        try:
            yield page
        except Exception:
            save_open_pages()
            raise


def save_open_pages() -> None:
    """Save a picture of each open page, named after the test that runs."""
    test = re.sub(r"[^\w.-]+", "-", os.environ.get("PYTEST_CURRENT_TEST", "no test"))[:200]
    for number, page in enumerate(_open, 1):
        # The browser or a server may be dead.
        with contextlib.suppress(BrowserError, WaitError, ServerDiedError):
            FAILED.mkdir(parents=True, exist_ok=True)
            page.save_picture(FAILED / f"{test}-{number}.png")
