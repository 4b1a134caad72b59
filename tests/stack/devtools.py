"""A headless browser, controlled with the DevTools protocol; one that has died is started again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.stack.processes import Server, signals_held
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
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
STARTS = 3
"""How often a browser is started that ends before it has a page."""
LEFT = (
    "Execution context was destroyed",
    "Cannot find context",
    "Cannot find default execution context",
    "uniqueContextId not found",
    "Inspected target navigated or closed",
    "Promise was collected",
    "Not attached to an active page",
)
"""What the browser answers for a page that it is leaving."""
CRASHED = "Target crashed"
PASSING = ("net::ERR_ABORTED", "net::ERR_NETWORK_CHANGED")
"""Why a page is not opened although its server works: another one took its place, or the network changed."""


class BrowserError(Exception):
    """There is no browser, or it failed to execute a command."""


class PageLeftError(BrowserError):
    """The browser was leaving the page: the one that takes its place has to be asked."""


class BrowserDiedError(BrowserError):
    """The browser has died. Another one shows the same address, but nothing of what was done on the page."""


class _CrashError(Exception):
    """A process of the browser has died."""


DEATH = (_CrashError, OSError, WebSocketException)


class Browser:
    """A browser with one page.

    :param directory: new directory for the browser's profiles and output.
    :param size: size of the window in pixels.
    :param url: address of the page.
    """

    def __init__(self, directory: Path, size: tuple[int, int], url: str = "about:blank") -> None:
        self._directory = directory
        self._size = size
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        self._scripts: list[str] = []
        self._url = url
        self._server: Server | None = None
        self._connection: ClientConnection | None = None
        self._closing = contextlib.ExitStack()

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._server is not None
        return self._server.pid

    def start(self) -> None:
        """Start the browser, and open the page.

        :raises BrowserError: if none is installed, or it does not start.
        """
        executable = next((found for name in NAMES if (found := shutil.which(name))), None)
        if executable is None:
            raise BrowserError(f"none of {', '.join(NAMES)} is on PATH; on Debian: apt-get install chromium")
        for attempt in range(1, STARTS + 1):
            number = next(self._numbers)
            profile = self._directory / f"profile-{number}"
            flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={self._size[0]},{self._size[1]}")
            with signals_held():
                self._server = Server(
                    (executable, *flags, "about:blank"),
                    name="the browser",
                    env=os.environ,
                    cwd=self._directory,
                    output=self._directory / f"browser-{number}.log",
                    vital=False,
                )
            try:
                opened = connect(_debugger(profile, self._server), max_size=None, proxy=None)
                self._connection = self._closing.enter_context(opened)
                for script in self._scripts:
                    self._add(script)
                self._navigate(self._send)
            except DEATH as error:
                last = self._server.tail()
                self.stop()
                if attempt == STARTS:
                    raise BrowserError(f"the browser does not start ({error!r}); its last lines:\n{last}") from error
            else:
                return

    def stop(self) -> None:
        """Stop the browser, if there is one."""
        self._connection = None
        with contextlib.suppress(OSError, WebSocketException):
            self._closing.close()
        if self._server is not None:
            self._server.stop()
            self._server = None

    def open(self, url: str) -> None:
        """Go to another page, in another browser if this one has died."""
        self._url = url
        with contextlib.suppress(BrowserDiedError):
            self._navigate(self.call)

    def run_on_every_page(self, script: str) -> None:
        """Run a JavaScript at the start of every page that is opened from now on."""
        self._scripts.append(script)
        if self._connection is not None:
            self._add(script)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a command.

        :raises PageLeftError: if the page was left meanwhile.
        :raises BrowserDiedError: if the browser died meanwhile.
        :raises BrowserError: if it refuses the command.
        """
        try:
            return self._send(method, **params)
        except DEATH as error:
            last = "" if self._server is None else self._server.tail()
            self.stop()
            self.start()
            raise BrowserDiedError(f"the browser has died ({error!r}); its last lines:\n{last}") from error

    def _add(self, script: str) -> None:
        self._send("Page.enable")
        self._send("Page.addScriptToEvaluateOnNewDocument", source=script)

    def _navigate(self, send: Callable[..., dict[str, Any]]) -> None:
        def navigate() -> bool | None:
            with contextlib.suppress(PageLeftError):
                problem = send("Page.navigate", url=self._url).get("errorText", "")
                if problem and problem not in PASSING:
                    raise BrowserError(f"{self._url}: {problem}")
                return None if problem else True
            return None

        wait_until(navigate, lambda: f"{self._url} is not opened")

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        if self._connection is None:
            raise _CrashError
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=PATIENCE))
            if message.get("method") == "Inspector.targetCrashed":
                raise _CrashError
            if message.get("id") == number:
                if "error" not in message:
                    result: dict[str, Any] = message["result"]
                    return result
                text = f"{method}: {message['error']}"
                if CRASHED in text:
                    raise _CrashError
                raise PageLeftError(text) if any(each in text for each in LEFT) else BrowserError(text)


def _debugger(profile: Path, server: Server) -> str:
    """Wait for the page, and return the address of its debugger."""

    def look() -> str | None:
        with contextlib.suppress(OSError, IndexError, requests.RequestException), requests.Session() as session:
            session.trust_env = False
            port = (profile / "DevToolsActivePort").read_text(encoding="utf-8").split()[0]
            for target in session.get(f"http://127.0.0.1:{port}/json/list", timeout=10).json():
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
        if server.returncode() is not None:
            raise _CrashError(f"exit code {server.returncode()}")
        return None

    return wait_until(look, "the browser has no page")
