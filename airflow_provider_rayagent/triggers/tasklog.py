"""The way of a trigger's records into the task log.

A triggerer carries the records of all its triggers over one socket to its supervisor, which reads 4096 bytes of it
between two looks at its database (``airflow.jobs.triggerer_job_runner``). A write to that socket when it is full
blocks the event loop of every trigger; what is still in it when the trigger has ended is lost to the task log. So a
record is written only while there is room, one trigger after the other, and the end waits until all was read.
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
from itertools import chain, islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog

from airflow_provider_rayagent.render.records import JOB_LOGGER, grouped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from airflow_provider_rayagent.render.record_builder import Record

QUIET_RECORDS = 20
"""More at once are joined into larger ones, which cost Airflow a tenth."""
POLL_SECONDS = 0.01
DRAIN_SECONDS = 30.0
"""How long at most the end waits for what was written to be read."""
STALL_SECONDS = 10.0
"""A triggerer that stood still for so long may have been taken for dead and replaced."""
STUCK_SECONDS = 1.0
"""A supervisor that takes longer to save a position is waited for before more is written."""
BLIND_DRAIN_SECONDS = 1.0
"""How long it waits where there is no socket to look at."""


class Channel:
    """The socket to the supervisor, shared by all triggers of an event loop. Made by :meth:`of_loop`.

    :param fd: the socket; ``None`` outside a triggerer.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._poll = select.poll()
        if fd is not None:
            self._poll.register(fd, select.POLLOUT)
        self._turn = asyncio.Lock()
        self._writers = 0
        self._pen = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._storing: list[float] = []
        self._beat = time.monotonic()
        self.standstills = 0
        """How often the event loop, or who reads the socket, stood still for :data:`STALL_SECONDS`."""

    @classmethod
    def of_loop(cls) -> Channel:
        """Return the channel of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in _channels:
            _channels[loop] = cls(_supervisor_socket())
        return _channels[loop]

    def beat(self) -> float:
        """Return the monotonic clock, in seconds; each trigger asks every few seconds. None for long: a standstill."""
        now = time.monotonic()
        self.standstills += now - self._beat > STALL_SECONDS
        self._beat = now
        return now

    @property
    def is_busy(self) -> bool:
        """Whether a record would have to wait."""
        return self._writers > 0 or self._pen.locked() or not self._has_room()

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """Give the turn, once a record can be written without blocking."""
        self._writers += 1
        try:
            async with self._turn, self._pen:
                since = time.monotonic()
                while not self._has_room() or self._is_stuck():  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(POLL_SECONDS)
                self.standstills += time.monotonic() - since > STALL_SECONDS
                yield
        finally:
            self._writers -= 1

    @asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """Give the turn to save a position, one trigger after the other, in up to half of the supervisor's time."""
        async with self._saving:
            began = time.monotonic()
            yield
            await asyncio.sleep(time.monotonic() - began)

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Say that the supervisor stores a position meanwhile; should that take too long, nothing more is written."""
        since = time.monotonic()
        self._storing.append(since)
        try:
            yield
        finally:
            self._storing.remove(since)

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        """Let nobody write, once all that was written has been read, and with that is on disk.

        It does not queue up with those that write: of a thousand triggers one could save its position a second.
        """
        async with self._pen:
            if self._fd is None:
                await asyncio.sleep(BLIND_DRAIN_SECONDS)
            else:
                for _ in range(int(DRAIN_SECONDS / POLL_SECONDS)):
                    if not self._unread(self._fd):
                        break
                    await asyncio.sleep(POLL_SECONDS)
            yield

    def _has_room(self) -> bool:
        """Whether the socket is at most a quarter full: Linux calls it writable only then."""
        return self._fd is None or bool(self._poll.poll(0))

    def _is_stuck(self) -> bool:
        """Whether a position waits to be stored: what is written now would be repeated, should this triggerer die."""
        return bool(self._storing) and time.monotonic() - self._storing[0] > STUCK_SECONDS

    @staticmethod
    def _unread(fd: int) -> int:
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


_channels: WeakKeyDictionary[asyncio.AbstractEventLoop, Channel] = WeakKeyDictionary()


def _supervisor_socket() -> int | None:
    output = getattr(structlog.get_config().get("logger_factory"), "io", None)
    try:
        fd = int(output.fileno())  # type: ignore[union-attr]
        return fd if stat.S_ISSOCK(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None


class TaskLog:
    """The task log of one trigger.

    :param log: the trigger's own logger, for what is not a line of the job.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._job_log = structlog.get_logger(JOB_LOGGER)
        self._channel = Channel.of_loop()

    async def write(self, found: Iterable[Record]) -> None:
        """Write records, as they are while it is quiet, joined into larger ones under load."""
        some = iter(found)
        first = list(islice(some, QUIET_RECORDS + 1))
        under_load = len(first) > QUIET_RECORDS or (len(first) > 1 and self._channel.is_busy)
        for record in grouped(chain(first, some)) if under_load else first:
            async with self._channel.room():
                (self._job_log if record.from_job else self._log).log(record.level, "%s", record.text)
            await asyncio.sleep(0)
