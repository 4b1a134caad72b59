"""Connections of the blocking transport: those of ``urllib3``, with a limited idle time and limits for each response.

The read timeout of ``urllib3`` limits each read of the socket, so that a response that arrives byte by byte would have
no limit.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import sys
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.ssltransport import SSLTransport

from airflow_provider_rayagent.connection.config import MAX_IDLE_SECONDS
from airflow_provider_rayagent.transport import connecting, limits
from airflow_provider_rayagent.transport.limits import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer
    from urllib3.response import HTTPResponse as Response


class Reader(io.RawIOBase):
    """Reads the head and body of one response from a socket, within a limit.

    :param connection: the socket, with its timeout set.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.buffer = io.BufferedReader(self, READ_BYTES)
        # Unbuffered, so that each read is one recv(), whose duration is known.
        self._raw = connection.makefile("rb", buffering=0)
        # The read timeout comes on top, since the head may take all of it; see exchange_seconds().
        self._budget: limits.WaitBudget | None = limits.WaitBudget(limits.ANSWER, connection.gettimeout() or 0.0)
        self.before_wait: Callable[[], None] | None = None
        """Called before each read of the socket, when all data received so far was read."""

    def wait_for(self, limit: limits.Limit | None, *, forever: bool = False) -> None:
        """Set the limit for the rest of the response; ``None``: only that of each read.

        :param forever: whether there is no read timeout either.
        """
        self._budget = limits.WaitBudget(limit) if limit is not None else None
        if forever:
            self.socket.settimeout(None)

    def take_received(self) -> bytes:
        """Return the data after the head of the response that was already received."""
        # If the buffer is empty, read1() reads the socket, and must not wait: the peer may have sent the head only.
        self.socket.settimeout(0)
        try:
            return self.buffer.read1(READ_BYTES)
        except ssl.SSLWantReadError:
            return b""

    def end(self) -> None:
        """End a read in another thread."""
        # An https agent behind an https proxy requires TLS in TLS: a wrapper without shutdown() around the socket.
        connection: Any = self.socket
        if isinstance(connection, SSLTransport):
            connection = connection.socket
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown(), which unsets an attribute that the other thread's SSLSocket.read() is using.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def readable(self) -> bool:
        """Implement :class:`io.RawIOBase`."""
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        """Read once from the socket.

        :raises TimeoutError: if no data arrives in time; :class:`TooSlowError` if the limit is exceeded.
        """
        if self.before_wait is not None:
            self.before_wait()
        budget = self._budget
        if budget is None:
            return self._raw.readinto(buffer)
        timeout, left = self.socket.gettimeout(), budget.left
        is_last = timeout is None or timeout > left
        if is_last:
            # Not restored: urllib3 sets it for each request (``HTTPConnection.request`` and ``getresponse``).
            self.socket.settimeout(left)
        began = time.monotonic()
        try:
            received = self._raw.readinto(buffer)
        except TimeoutError:
            if is_last:
                raise budget.exceeded from None
            raise
        budget.spend(time.monotonic() - began, received or 0)
        return received

    def close(self) -> None:
        """Release the socket."""
        self._raw.close()
        super().close()


class _HTTPConnection(HTTPConnection):
    """A connection that is made within its timeout, reads through a :class:`Reader`, and has a limited idle time."""

    reader: Reader | None = None
    _answered_at = float("inf")

    def _new_conn(self) -> socket.socket:
        """Connect, with the exceptions of urllib3's own method."""
        # Each request has a timeout (``BlockingServiceClient._request``).
        seconds: Any = self.timeout
        try:
            # An IPv6 address is in brackets.
            host = self._dns_host.strip("[]")
            host.encode("idna")
            made = connecting.connect(host, self.port, seconds, self.socket_options or ())
        except UnicodeError:
            raise LocationParseError(f"'{self.host}', label empty or too long") from None
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"No connection to {self.host} within {seconds} seconds.") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return made

    def response_class(  # type: ignore[override]
        self, connection: socket.socket, *args: Any, **kwargs: Any
    ) -> HTTPResponse:
        """Return an unread response; ``http.client`` calls this attribute to create it."""
        response = HTTPResponse(connection, *args, **kwargs)
        # Nothing was read from it yet. A socket is not closed before its files are (``socket.socket.close``).
        response.fp.close()
        self.reader = Reader(connection)
        response.fp = self.reader.buffer  # type: ignore[assignment]
        return response

    def getresponse(self) -> Response:  # type: ignore[override]
        response = super().getresponse()
        self._answered_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the pool may reuse the connection."""
        return time.monotonic() < self._answered_at + MAX_IDLE_SECONDS and super().is_connected


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    """The same over TLS."""


class Adapter(requests.adapters.HTTPAdapter):
    """Makes a session of ``requests`` use these connections, direct and through a proxy."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request, which makes the connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # Neither requests nor PoolManager has an argument for the class of connections.
        pool.ConnectionCls = _HTTPSConnection if pool.scheme == "https" else _HTTPConnection
        return pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Raise ``FileNotFoundError`` for a missing file, for which ``requests`` raises a plain ``OSError``."""
        try:
            super().cert_verify(*args, **kwargs)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise FileNotFoundError(str(error)) from None

    def close(self) -> None:
        """Close every idle connection now; ``requests`` only drops its references to the pools."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            # urllib3's RecentlyUsedContainer raises NotImplementedError for an iteration over itself, and another
            # thread may remove a pool meanwhile.
            for key in manager.pools.keys():  # noqa: SIM118
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


class Session(requests.Session):
    """A session that does not follow redirects.

    ``requests`` reads the whole body of a redirect even with ``allow_redirects=False``: ``Session.send`` computes the
    next request, for which ``resolve_redirects`` consumes the content.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - defined by the interface
        """Make ``requests`` treat no response as a redirect."""
        return


def reader_of(response: requests.Response) -> Reader:
    """Return the reader of a response that is not yet read to its end."""
    connection: Any = response.raw.connection
    reader: Reader = connection.reader
    return reader


def has_pending(connection: object) -> bool:
    """Whether TLS has buffered received data, which waiting for the socket would not detect."""
    if isinstance(connection, SSLTransport):
        return bool(connection.sslobj.pending() or connection.incoming.pending or has_pending(connection.socket))
    return isinstance(connection, ssl.SSLSocket) and bool(connection.pending())
