"""Limits on client connections: their number, and the time for the headers of a request."""

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
    # uvicorn's two implementations both have the attributes used here.
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

MAX_CONNECTIONS = 2_000
"""Maximum number of open connections if the limit of open files permits."""
RESERVED_FILES = 500
"""Open files reserved for connections to Ray and for logs."""
HEADERS_TIMEOUT = 10.0
"""Seconds within which the headers of a request must arrive."""
MAX_REJECTED = 50
"""Maximum number of rejected connections that are not closed yet."""
WARNING_INTERVAL = 60.0
"""Seconds between two warnings that a limit is reached."""
BACKLOG = 512
"""Maximum number of connections that wait to be accepted."""

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ASYNCIO_OUT_OF_FILES = "socket.accept() out of system resource"
_TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"detail": "The local agent has reached its limit of open connections. Try again later."}'
)
_HEADERS_TIMED_OUT = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"detail": "The headers of the request did not arrive in time."}'
)
_log = logging.getLogger(__name__)


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as needed; return the number of connections that it allows."""
    needed = MAX_CONNECTIONS + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return MAX_CONNECTIONS
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - RESERVED_FILES, soft // 4)


class Listener(socket.socket):
    """A listening socket that limits the number of open connections, and rejects further ones with 503.

    :ivar max_connections: the limit.
    """

    max_connections = MAX_CONNECTIONS

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self.open_connections = 0
        self._warn_after = self._paused_until = 0.0

    def listen(self, _backlog: int = 0, /) -> None:
        """Listen with a backlog of :data:`BACKLOG`; asyncio passes the number of connections to accept in a row."""
        super().listen(BACKLOG)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        :raises BlockingIOError: if no connection is waiting.
        :raises ConnectionAbortedError: if the connection was rejected because of the limit.
        :raises OSError: if the process has no free file descriptor; asyncio then pauses for a second.
        """
        if time.monotonic() < self._paused_until:
            raise BlockingIOError
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                # asyncio would retry hundreds of times before it pauses (`_accept_connection`, selector_events.py).
                self._paused_until = time.monotonic() + 0.5
                self._warn(f"cannot accept connections: {error.strerror}")
            raise
        connection = _Connection(self, accepted)
        if self.open_connections <= self.max_connections:
            return connection, address
        self._warn(f"{self.max_connections} connections are open; rejecting further ones")
        self._reject(connection)
        raise ConnectionAbortedError

    def _reject(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_TOO_MANY_CONNECTIONS)
            connection.shutdown(socket.SHUT_WR)
        if self.open_connections > self.max_connections + MAX_REJECTED:
            connection.close()
        else:
            # Closing a socket with unread data resets the connection, and the client might not receive the response.
            asyncio.get_running_loop().call_later(1.0, connection.close)

    def _warn(self, what: str) -> None:
        if time.monotonic() >= self._warn_after:
            self._warn_after = time.monotonic() + WARNING_INTERVAL
            _log.warning("The local agent is at its limit: %s.", what)


class _Connection(socket.socket):
    """A connection that counts toward its listener's limit until it is closed."""

    def __init__(self, listener: Listener, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._listener: Listener | None = listener
        listener.open_connections += 1

    def close(self) -> None:
        if self._listener is not None:
            self._listener.open_connections -= 1
            self._listener = None
        super().close()


def ignore_out_of_files(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of an event loop that ignores the error that :class:`Listener` reports itself."""
    if context.get("message") != _ASYNCIO_OUT_OF_FILES:
        loop.default_exception_handler(context)


class Protocol(AutoHTTPProtocol):
    """uvicorn's HTTP protocol with a timeout for the headers of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _update_deadline(self) -> None:
        is_websocket = self.transport.get_protocol() is not self
        if is_websocket or (self.cycle is not None and not self.cycle.response_complete):
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_TIMEOUT, self._reject_slow_headers)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _reject_slow_headers(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_HEADERS_TIMED_OUT)
            self.transport.close()
