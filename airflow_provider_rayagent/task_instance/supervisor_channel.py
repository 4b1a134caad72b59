"""The socket to a triggerer's supervisor, to which its triggers write in turn, without blocking the triggerer.

A triggerer sends the records of all its triggers over one socket to its supervisor, which reads 4096 bytes at a time
between database queries (``airflow/jobs/triggerer_job_runner.py``; ``BUFFER_SIZE`` in
``airflow/sdk/execution_time/supervisor.py``). A write to the full socket blocks the event loop, and with it all
triggers. Records that are still in the socket when a trigger has ended do not reach its task log. So triggers write in
turn, and only while the socket has room; at its end, a trigger waits until the supervisor has read everything.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import stat
import struct
import termios
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

POLL_SECONDS = 0.01
DRAIN_SECONDS = 30.0
"""The longest wait for the supervisor to read what was written."""
STALL_SECONDS = 10.0
"""After a stall this long, Airflow may have declared the triggerer dead and reassigned its triggers."""
SLOW_STORE_SECONDS = 1.0
"""If storing a position takes longer, writing pauses until it is done."""
HUNG_STORE_SECONDS = 30.0
"""If it takes longer than this, such as by a backend for XComs that hangs, writing goes on."""
BLIND_DRAIN_SECONDS = 1.0
"""The wait for draining without a socket to inspect."""


class Channel:
    """The socket to the supervisor, shared by all triggers of an event loop. Created by :meth:`of_loop`.

    :param fd: file descriptor of the socket; ``None`` outside a triggerer.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._poll = select.poll()
        if fd is not None:
            self._poll.register(fd, select.POLLOUT)
        # asyncio gives a lock to those who wait for it in the order of their requests, so triggers take turns.
        self._queue_lock = asyncio.Lock()
        self._writers = 0
        self._write_lock = asyncio.Lock()
        self._save_lock = asyncio.Lock()
        self._stores_in_progress: list[float] = []
        self._last_tick = time.monotonic()
        self.stalls = 0
        """How often the event loop or the reader of the socket stalled for :data:`STALL_SECONDS`."""

    @classmethod
    def of_loop(cls) -> Channel:
        """Return the channel of the running loop."""
        loop = asyncio.get_running_loop()
        # Locks of asyncio belong to one loop, and a process can have several, such as in ``dag.test()``.
        if loop not in _channels:
            _channels[loop] = cls(_supervisor_socket())
        return _channels[loop]

    def tick(self) -> float:
        """Return the monotonic clock in seconds, and count a stall if the last tick was too long ago.

        Every trigger ticks every few seconds, so a long gap means that the event loop itself was blocked or frozen.
        """
        now = time.monotonic()
        self.stalls += now - self._last_tick > STALL_SECONDS
        self._last_tick = now
        return now

    @property
    def is_busy(self) -> bool:
        """Whether a record would have to wait to be written."""
        return self._writers > 0 or self._write_lock.locked() or not self._has_room()

    @asynccontextmanager
    async def write_slot(self) -> AsyncIterator[None]:
        """Wait for this trigger's turn, and until a record can be written without blocking."""
        self._writers += 1
        try:
            async with self._queue_lock, self._write_lock:
                since = time.monotonic()
                while not self._has_room() or self._is_storing_slowly():  # noqa: ASYNC110 - no event signals it
                    await asyncio.sleep(POLL_SECONDS)
                self.stalls += time.monotonic() - since > STALL_SECONDS
                yield
        finally:
            self._writers -= 1

    @asynccontextmanager
    async def save_slot(self) -> AsyncIterator[None]:
        """Wait for this trigger's turn to save a position; all saves take up to half of the supervisor's time."""
        async with self._save_lock:
            began = time.monotonic()
            yield
            await asyncio.sleep(time.monotonic() - began)

    @contextmanager
    def store_in_progress(self) -> Iterator[None]:
        """Mark that the supervisor is storing a position; if that takes too long, writing pauses."""
        since = time.monotonic()
        self._stores_in_progress.append(since)
        try:
            yield
        finally:
            self._stores_in_progress.remove(since)

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[bool]:
        """Block writes, and wait until the supervisor has read everything; then it is on disk.

        Yields whether that is so: false if the supervisor has not done it within :data:`DRAIN_SECONDS`. This bypasses
        the queue of writers: in it, only one of a thousand triggers could save its position per second.
        """
        async with self._write_lock:
            yield await self._wait_until_drained()

    async def _wait_until_drained(self) -> bool:
        if self._fd is None:
            await asyncio.sleep(BLIND_DRAIN_SECONDS)
            return True
        until = time.monotonic() + DRAIN_SECONDS
        while self._unread(self._fd):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _has_room(self) -> bool:
        """Whether the socket is at most a quarter full: Linux reports it as writable only then."""
        # See unix_writable() in ``net/unix/af_unix.c`` of Linux.
        return self._fd is None or bool(self._poll.poll(0))

    def _is_storing_slowly(self) -> bool:
        """Whether a position takes long to be stored: lines written now would be repeated if the triggerer died."""
        now = time.monotonic()
        return any(SLOW_STORE_SECONDS < now - since < HUNG_STORE_SECONDS for since in self._stores_in_progress)

    @staticmethod
    def _unread(fd: int) -> int:
        # For a Unix socket, Linux returns what the other side has not read yet (unix_outq_len() in
        # ``net/unix/af_unix.c``).
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


class StallClock:
    """A monotonic clock in seconds that detects stalls of the triggerer; see :meth:`Channel.tick`.

    A long wait of one trigger, for a response or for its turn to write, is not a stall: among a thousand it is normal.
    """

    def __init__(self, channel: Channel) -> None:
        channel.tick()
        self._channel = channel
        self.handled = self.stalls

    @property
    def stalls(self) -> int:
        """Number of stalls so far."""
        return self._channel.stalls

    @property
    def stalled(self) -> bool:
        """Whether there was a stall that is not handled yet."""
        return self.stalls > self.handled

    def __call__(self) -> float:
        return self._channel.tick()


_channels: WeakKeyDictionary[asyncio.AbstractEventLoop, Channel] = WeakKeyDictionary()


def _supervisor_socket() -> int | None:
    # Airflow has no API for its socket, but configures structlog with it (``_configure_logs_over_json_channel`` in
    # ``airflow/sdk/execution_time/supervisor.py``).
    output = getattr(structlog.get_config().get("logger_factory"), "io", None)
    try:
        fd = int(output.fileno())  # type: ignore[union-attr]
        return fd if stat.S_ISSOCK(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None
