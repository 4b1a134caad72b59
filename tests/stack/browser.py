"""A page in a real browser without a screen: its text, and a picture of it."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    "--remote-debugging-port=0",
)
START_TIMEOUT = 30.0


class BrowserError(Exception):
    """There is no browser, it did not start, or the page does not show what it should."""


class Page:
    """A page, spoken to by the browser's devtools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    def text(self) -> str:
        """Return the text that the page shows."""
        answer = self._call("Runtime.evaluate", expression="document.body.innerText")
        return str(answer["result"].get("value", ""))

    def wait_until(self, shows: Callable[[str], bool], timeout: float = 60.0) -> None:
        """Wait until the text of the page is as it should be."""
        deadline = time.monotonic() + timeout
        while not shows(text := self.text()):
            if time.monotonic() > deadline:
                raise BrowserError(f"after {timeout:g} s the page shows:\n{text}")
            time.sleep(0.3)

    def save_picture(self, path: Path) -> None:
        """Write what the page looks like to a PNG file."""
        answer = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=30))
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result


@contextlib.contextmanager
def browser_page(url: str, directory: Path, size: tuple[int, int] = (1600, 1000)) -> Iterator[Page]:
    """Open a page in a browser of its own, which ends with the block.

    :param directory: for the browser's profile and output; must be new.
    :param size: the window's, in pixels.
    :raises BrowserError: if no browser is installed, or it does not start.
    """
    executable = next((found for name in NAMES if (found := shutil.which(name))), None)
    if executable is None:
        raise BrowserError(f"none of {', '.join(NAMES)} is on PATH; on Debian: apt-get install chromium")
    profile = directory / "profile"
    flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}")
    with contextlib.ExitStack() as stack:
        with signals_held():
            command = (executable, *flags, url)
            server = Server(command, env=os.environ, cwd=directory, output=directory / "browser.log")
            stack.callback(server.stop)
        yield Page(stack.enter_context(connect(_debugger(server, profile), max_size=None, proxy=None)))


def _debugger(server: Server, profile: Path) -> str:
    """Return the address at which the page can be spoken to, once it is there."""
    deadline = time.monotonic() + START_TIMEOUT
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline and server.returncode() is None:
            with contextlib.suppress(OSError, requests.RequestException):
                port = (profile / "DevToolsActivePort").read_text(encoding="utf-8").split()[0]
                for target in session.get(f"http://127.0.0.1:{port}/json/list", timeout=5).json():
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
            time.sleep(0.1)
    raise BrowserError(f"the browser did not start:\n{server.tail()}")
