"""How the blocking transport reads bodies and WebSockets that take long."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from urllib3.util import wait_for_read

from airflow_provider_rayagent.transport.blocking_connections import has_pending
from airflow_provider_rayagent.transport.limits import READ_BYTES
from airflow_provider_rayagent.transport.log_responses import SEND_SECONDS, end_of_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AsyncExitStack

    from airflow_provider_rayagent.transport.blocking_connections import Reader

READ_AHEAD_BYTES = 262_144
"""Bytes of a body to read ahead; then the agent has to wait."""


class UpgradedSocket:
    """See :class:`.UpgradedConnection`."""

    broken = (OSError,)

    def __init__(self, reader: Reader) -> None:
        self._socket = reader.socket
        self._received = reader.take_received()

    async def receive(self, seconds: float) -> bytes | None:
        received, self._received = self._received, b""
        if received:
            return received
        # Not recv() with this timeout: if it is 0, recv() raises BlockingIOError or SSLWantReadError, not TimeoutError.
        if not (has_pending(self._socket) or wait_for_read(self._socket, seconds)):
            return None
        self._socket.settimeout(SEND_SECONDS)
        try:
            return self._socket.recv(READ_BYTES)
        except TimeoutError:  # a TLS record is incomplete
            return None

    async def send(self, data: bytes, seconds: float) -> None:
        self._socket.settimeout(seconds)
        self._socket.sendall(data)


class ReadAheadThread:
    """A thread that reads a body ahead, since a read of ``requests`` cannot be resumed after a timeout.

    :param body: the data of the body.
    :param opened: closes the response.
    """

    def __init__(self, reader: Reader, body: Iterator[bytes], opened: AsyncExitStack) -> None:
        self._reader = reader
        self._opened = opened
        self._condition = threading.Condition()
        self._unshared: list[bytes] = []
        """Data that the thread has read, but not yet handed over."""
        self._unshared_bytes = 0
        self._chunks: list[bytes] = []
        self._held = 0
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), name="rayagent-log", daemon=True)
        self._thread.start()

    async def take(self, seconds: float) -> bytes:
        with self._condition:
            self._condition.wait_for(lambda: self._chunks or self._ended, max(seconds, 0.0))
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
            self._condition.notify_all()
            if not data and self._ended:
                raise end_of_stream(self._error) from self._error
        return data

    async def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            # At the end of a body, the connection is intact and returns to the pool.
            if not self._ended:
                self._reader.end()
        # Before the response is closed: BufferedReader.close() waits for the lock that a read in the thread holds.
        self._thread.join()
        await self._opened.aclose()

    def _run(self, body: Iterator[bytes]) -> None:
        # What one read of the socket has brought is handed over at once, and not each line of it: to wake the other
        # thread takes longer than to read a line.
        self._reader.before_wait = self._hand_over
        try:
            for chunk in body:
                self._unshared.append(chunk)
                self._unshared_bytes += len(chunk)
                if self._unshared_bytes >= READ_BYTES:
                    self._hand_over()
                if self._closed:
                    return
        except Exception as error:  # noqa: BLE001 - of any kind: else the end would count as that of the log
            self._error = error
        finally:
            self._reader.before_wait = None
            self._hand_over()
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _hand_over(self) -> None:
        """Pass on what was read. Waits while too much of it is not taken."""
        if not self._unshared:
            return
        with self._condition:
            self._condition.wait_for(lambda: self._held < READ_AHEAD_BYTES or self._closed)
            self._chunks += self._unshared
            self._held += self._unshared_bytes
            self._condition.notify_all()
        self._unshared.clear()
        self._unshared_bytes = 0
