"""One connection of a client: bytes in, bytes out, every way to end it, and the request that was read from it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

HIGH_WATER = 64 * 1024
"""Bytes that the server buffers in its own memory before a play has to wait for the client."""


LINGER = 0.25
"""Seconds from a FIN to the end of the socket, where the client does not close its side."""

ESTABLISHED = 1
"""``TCP_ESTABLISHED`` of Linux's ``tcp_states.h``, the first byte of ``struct tcp_info``."""


class GoneError(Exception):
    """The connection is closed; nothing more can be read from it or written to it."""


@dataclass
class Request:
    """A request as the server saw it.

    :param time: ``time.monotonic()`` when its head was read.
    :param method: HTTP method, or ``WS`` for a WebSocket upgrade.
    :param path: path below the agent's base path, still quoted, without the query; of a request to Ray's dashboard the
        agent's path that it stands for, and ``sent_path`` the one that was sent.
    :param headers: names in lower case.
    :param connection: number of the connection, from 1.
    :param status: HTTP status sent; 101 for an accepted upgrade, ``None`` while there is none.
    :param sent: bytes written in answer, heads and framing included.
    :param messages: log messages written (events, chunks of text).
    :param ended: ``time.monotonic()`` when the exchange was over, ``None`` while it goes on.
    """

    time: float
    method: str
    path: str
    query: str
    headers: dict[str, str]
    connection: int
    body: bytes = b""
    status: int | None = None
    sent: int = 0
    messages: int = 0
    ended: float | None = None

    def __post_init__(self) -> None:
        self.sent_path = self.path

    @property
    def route(self) -> str:
        """``GET jobs/j1/``: the key of :attr:`ScriptedAgent.answers`."""
        return f"{self.method} {self.path}"

    @property
    def parts(self) -> list[str]:
        """The path's segments, unquoted."""
        return [unquote(part) for part in self.path.strip("/").split("/")]


@dataclass
class Tally:
    """Counts of the whole server."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    open: set[Link] = field(default_factory=set)


class Link(asyncio.Protocol):
    """A connection.

    :param begin: called with the connection when it is made; returns the task that serves it.
    :param send_buffer: bytes of the kernel's send buffer.
    """

    def __init__(
        self, tally: Tally, begin: Callable[[Link], asyncio.Task[None]], send_buffer: int | None = None
    ) -> None:
        self._tally = tally
        self._begin = begin
        self._send_buffer = send_buffer
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport
        self.number = 0
        self.task: asyncio.Task[None] | None = None
        self.request: Request | None = None
        self.receiver: Callable[[bytes], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.ended_here = False
        self._shut = False
        self._linger: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._send_buffer is not None:
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self._tally.connections += 1
        self._tally.open.add(self)
        self.number = self._tally.connections
        self.task = self._begin(self)

    def data_received(self, data: bytes) -> None:
        self._tally.received += len(data)
        if self.receiver is not None:
            self.receiver(data)
        else:
            self._buffer += data
            self._arrived.set()

    def eof_received(self) -> None:
        self.client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.open.discard(self)
        if self._linger is not None:
            self._linger.cancel()
        self.ended.set()
        self._writable.set()
        self._arrived.set()
        self.client_left()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def writable(self) -> bool:
        """Whether this side has not ended the connection."""
        return not (self._shut or self.transport.is_closing())

    @property
    def is_held_up(self) -> bool:
        """Whether what was written waits for the client to read."""
        return not self._writable.is_set()

    @property
    def is_established(self) -> bool:
        """Whether neither side has ended the connection, as the kernel knows it: this loop may learn it later."""
        if self.ended.is_set():
            return False
        state = self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == ESTABLISHED

    def client_left(self) -> None:
        """End the play, unless it was the play that ended the connection."""
        self._release()
        if not self.ended_here and self.task is not None:
            self.task.cancel()

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel.

        :raises GoneError: if the connection was ended.
        """
        if not self.writable:
            raise GoneError
        self._tally.sent += len(data)
        if self.request is not None:
            self.request.sent += len(data)
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait while the client reads more slowly than the play writes."""
        if not self._writable.is_set():
            await self._writable.wait()
        else:
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End with a FIN, after everything written was sent.

        The socket stays for a moment to read: were it closed with something unread, the client would see an RST.
        """
        self.ended_here = True
        self._release()
        self.end_writing()
        await asyncio.sleep(0)

    def end_writing(self) -> None:
        """Send a FIN, and close when the client does, or after :data:`LINGER`."""
        if self.writable:
            self._shut = True
            with contextlib.suppress(OSError):  # the client's RST was faster
                self.transport.write_eof()
            self._linger = asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    async def reset(self, patience: float = 1.0) -> None:
        """End with an RST, after the client's kernel took everything written, or ``patience`` seconds."""
        self.ended_here = True
        until = time.monotonic() + patience
        while not self.ended.is_set():
            if not self._unsent() or time.monotonic() > until:
                break
            await asyncio.sleep(0.001)
        self._release()
        self.abort()
        await asyncio.sleep(0)

    def abort(self) -> None:
        """End with an RST at once, whatever is still unsent."""
        self.ended_here = True
        if not self.ended.is_set():
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    async def read_line(self) -> bytes:
        """Return the next line without its end.

        :raises GoneError: at the end of the connection.
        """
        while (at := self._buffer.find(b"\n")) < 0:
            await self._more()
        line = bytes(self._buffer[:at]).rstrip(b"\r")
        del self._buffer[: at + 1]
        return line

    async def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        :raises GoneError: at the end of the connection.
        """
        while len(self._buffer) < size:
            await self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def divert(self, receiver: Callable[[bytes], None]) -> None:
        """Give what has come, and what comes from now on, to ``receiver``."""
        self.receiver = receiver
        data = bytes(self._buffer)
        self._buffer.clear()
        if data:
            receiver(data)

    async def _more(self) -> None:
        if self.ended.is_set():
            raise GoneError
        self._arrived.clear()
        await self._arrived.wait()

    def _unsent(self) -> int:
        if self.ended.is_set():
            return 0
        queued = fcntl.ioctl(self._socket().fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return self.transport.get_write_buffer_size() + cast("int", struct.unpack("i", queued)[0])

    def _release(self) -> None:
        if self.on_end is not None:
            self.on_end()

    def _socket(self) -> socket.socket:
        return cast("socket.socket", self.transport.get_extra_info("socket"))


async def read_request(link: Link, base_path: str) -> Request:
    """Read one request, its body included.

    :raises GoneError: if the connection ends first.
    :raises ValueError: if it is not HTTP.
    """
    line = b""
    while not line:
        line = await link.read_line()
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while header := await link.read_line():
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    path, _, query = target.partition("?")
    if headers.get("upgrade", "").lower() == "websocket":
        method = "WS"
    request = Request(time.monotonic(), method, path.removeprefix(base_path), query, headers, link.number)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        request.body = await _read_chunks(link)
    else:
        request.body = await link.read(int(headers.get("content-length", "0")))
    return request


async def _read_chunks(link: Link) -> bytes:
    body = b""
    while size := int((await link.read_line()).split(b";")[0], 16):
        body += await link.read(size)
        await link.read_line()
    await link.read_line()
    return body
