"""Connections of clients: how many there may be, and for how long one may be without a request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Both of uvicorn's protocols have what is used here.
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

MAX_CONNECTIONS = 2_000
"""Most connections, where the process may have so many files."""
OTHER_FILES = 500
"""Files that the agent needs beside the connections of its clients: those to Ray, and logs."""
HEADERS_SECONDS = 10.0
"""For the headers of a request to come."""
MOST_REFUSED = 50
"""Most connections that were refused and are not closed yet."""
TELL_SECONDS = 60.0
"""Between two lines in the log that say that a limit is reached."""
BACKLOG = 512
"""Connections that wait to be accepted."""

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ASYNCIO_OUT_OF_FILES = "socket.accept() out of system resource"
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"detail": "The local agent has as many connections as it takes: try again later."}'
)
_TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"detail": "The headers of the request did not come in time."}'
)
_log = logging.getLogger(__name__)


def raise_file_limit() -> int:
    """Let this process have as many files as it may need; return for how many connections that is enough."""
    wanted = MAX_CONNECTIONS + OTHER_FILES
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= wanted:
        return MAX_CONNECTIONS
    files = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return max(files - OTHER_FILES, files // 4)


class Listener(socket.socket):
    """A listening socket with a bound on the connections that are open at a time; beyond it they are refused with 503.

    :ivar most: the bound.
    """

    most = MAX_CONNECTIONS

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self.open = 0
        self._tell_after = self._paused_until = 0.0

    def listen(self, _backlog: int = 0, /) -> None:
        """Listen. The server's backlog is how many connections asyncio accepts in a row, and not this one's length."""
        super().listen(BACKLOG)

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that is not too much.

        :raises BlockingIOError: if none waits.
        :raises OSError: if the process is out of files; asyncio then pauses for a second.
        """
        if time.monotonic() < self._paused_until:
            raise BlockingIOError
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                # asyncio would try hundreds of times before it pauses (`_accept_connection`, selector_events.py).
                self._paused_until = time.monotonic() + 0.5
                self._tell(f"no connection can be accepted: {error.strerror}")
            raise
        connection = _Connection(self, accepted)
        if self.open <= self.most:
            return connection, address
        self._tell(f"{self.most} connections are open, and further ones are refused")
        self._refuse(connection)
        raise ConnectionAbortedError

    def _refuse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_TOO_MANY)
            connection.shutdown(socket.SHUT_WR)
        if self.open > self.most + MOST_REFUSED:
            connection.close()
        else:
            # With the request unread, closing resets the connection, and the client may not get to see the answer.
            asyncio.get_running_loop().call_later(1.0, connection.close)

    def _tell(self, what: str) -> None:
        if time.monotonic() >= self._tell_after:
            self._tell_after = time.monotonic() + TELL_SECONDS
            _log.warning("The local agent is at its limit: %s.", what)


class _Connection(socket.socket):
    """A connection that its listener counts until it is closed."""

    def __init__(self, listener: Listener, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._listener: Listener | None = listener
        listener.open += 1

    def close(self) -> None:
        if self._listener is not None:
            self._listener.open -= 1
            self._listener = None
        super().close()


def ignore_out_of_files(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle the event loop's errors as it does itself, but for the one that :class:`Listener` tells, once."""
    if context.get("message") != _ASYNCIO_OUT_OF_FILES:
        loop.default_exception_handler(context)


class Protocol(AutoHTTPProtocol):
    """uvicorn's protocol, which leaves a connection open for ever while the headers of a request are on their way."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_websocket = self.transport.get_protocol() is not self
        if is_websocket or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LATE)
            self.transport.close()
