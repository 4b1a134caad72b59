"""A proxy in front of an agent that can withhold the responses to certain requests.

with holding_proxy(agent.url, "/run/") as proxy:
    ...  # a client of proxy.url requests /run/
    proxy.wait_for_answer()
    ...  # the agent has handled the request, but the client does not know
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 65536


class HoldingProxy:
    """Forwards bytes in both directions, except the responses to certain POST requests.

    :param target: base URL of the agent.
    :param ending: end of the paths of these requests.
    """

    def __init__(self, target: str, ending: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._asked = re.compile(rb"POST \S*" + re.escape(ending.encode()) + rb" HTTP/1\.1\r\n")
        self._answered = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.holds = True
        self._start(self._accept)

    def wait_for_answer(self) -> None:
        """Wait until the agent has started to respond to such a request."""
        wait_until(lambda: self._answered.is_set() or None, "no response to withhold")

    def drop(self) -> None:
        """Close the open connections, so that the responses are lost, and withhold none from now on."""
        self.holds = False
        self._close(self._open)

    def close(self) -> None:
        """Close everything; the threads end with their sockets."""
        self._close([self._listener, *self._open])

    def _close(self, sockets: list[socket.socket]) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                agent = socket.create_connection(self._target)
                self._open += [client, agent]
                held = threading.Event()
                self._start(self._hand_on, client, agent, held, True)
                self._start(self._hand_on, agent, client, held, False)

    def _hand_on(self, source: socket.socket, sink: socket.socket, held: threading.Event, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                if is_request and self.holds and self._asked.match(chunk):
                    held.set()
                if not is_request and held.is_set():
                    self._answered.set()
                    continue
                sink.sendall(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def holding_proxy(target: str, ending: str) -> Iterator[HoldingProxy]:
    """Start the proxy, yield it, and close it."""
    proxy = HoldingProxy(target, ending)
    try:
        yield proxy
    finally:
        proxy.close()
