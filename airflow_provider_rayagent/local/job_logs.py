"""Whole and live logs of jobs, for any number of clients.

A live log is read from Ray again and again, and what it has more is sent. Ray's own live log over a WebSocket is not
used: Ray holds each until its job ends, 100 of them occupy all connections to a node (``JobAgentSubmissionClient`` in
``dashboard/modules/job/job_head.py``), and it can have newlines that the log does not have.

Ray aborts the transfer of a log after a timeout, which a slow client could exceed, so what is read is buffered.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import logging
import time
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import NO_LOG, RayResponseError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.log_events import COMPLETE, error_event, log_events
from airflow_provider_rayagent.local.spool import spooled
from airflow_provider_rayagent.services.jobs import has_ended

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

MAX_STREAMS = 200
"""Maximum number of whole and live logs that are sent at the same time; each may use a file."""
MAX_LOG_READS = 4
"""Maximum number of logs that are read from Ray at the same time."""
READ_INTERVAL = 1.0
"""Seconds between two readings of a live log."""
PAUSE_FACTOR = 4
"""How many times as long as it takes to read a log its next reading waits, at least."""
MAX_FAILURES = 4
"""Consecutive failures of Ray after which a live log ends early."""

_log = logging.getLogger(__name__)


class LogRewrittenError(Exception):
    """The log does not begin with the text that was read from it before."""

    def __init__(self) -> None:
        super().__init__("The job's log was rewritten while it was being followed.")


class JobLogs:
    """Reads logs of jobs.

    Both methods raise :class:`RayResponseError` if there is no such job (404), it was not submitted as a job (400), or
    :data:`MAX_STREAMS` is reached (429), and :class:`RayUnavailableError` if Ray does not respond.
    """

    def __init__(self, ray: RayDashboard) -> None:
        self._ray = ray
        self._reads = asyncio.Semaphore(MAX_LOG_READS)
        self._streams = 0

    async def whole(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a job's log so far, as UTF-8; raise an error unless it is complete."""
        with self._stream():
            job = await self._job(job_id)
            async with aclosing(spooled(self._text(job, is_whole=True))) as blocks:
                async for block in blocks:
                    yield block

    async def follow(self, job_id: str) -> AsyncGenerator[list[str], None]:
        """Return the events of a job's log, as JSON, one or more at a time.

        The last event is ``complete`` if the job has ended and its whole log was sent, or ``error`` if its log was
        rewritten, or cannot be read after the job's end. If Ray fails repeatedly, there is neither; a client that opens
        the log again starts from the beginning.
        """
        events = self._events(job_id)
        # Until the log is open, so that an error becomes a response with its own status and not a broken stream.
        await anext(events)
        return events

    async def _events(self, job_id: str) -> AsyncGenerator[list[str], None]:
        """Yield no event once the log is open, then the events of the log."""
        with self._stream():
            job = await self._job(job_id)
            yield []
            # Incremental, since a block may end within a character. Ray's invalid bytes were replaced before.
            growing, decoder, failures = GrowingLog(), codecs.getincrementaldecoder("utf-8")(), 0
            while True:
                try:
                    # In this order, since the log of a job that has ended is whole.
                    async with self._reads:
                        job = await self._job(job_id)
                    text = self._text(job, is_whole=has_ended(job))
                    async with aclosing(spooled(growing.new_part(text))) as blocks:
                        async for block in blocks:
                            yield list(log_events(decoder.decode(block)))
                    if has_ended(job):
                        yield [COMPLETE]
                        return
                    failures = 0
                except LogRewrittenError as error:
                    yield [error_event(str(error))]
                    return
                except (RayResponseError, RayUnavailableError) as error:
                    if has_ended(job) and isinstance(error, RayResponseError):
                        yield [error_event(f"Ray cannot return the whole log of this job: {error}")]
                        return
                    failures += 1
                    if failures == MAX_FAILURES:
                        _log.info("The live log of job %s ended early: %s", job_id, error)
                        return
                # Each reading begins at the first byte, so a long log is read less often.
                await asyncio.sleep(max(READ_INTERVAL, PAUSE_FACTOR * growing.seconds))

    async def _job(self, job_id: str) -> Row:
        job = await self._ray.get_job(job_id)
        if not job.get("submission_id"):
            raise RayResponseError(NO_LOG, 400)
        return job

    async def _text(self, job: Row, *, is_whole: bool) -> AsyncGenerator[bytes, None]:
        # Closed here: a generator that is only dropped keeps its place and connection until the event loop closes it.
        async with self._reads, aclosing(self._ray.log_text(job, is_whole=is_whole)) as texts:
            async for text in texts:
                yield text.encode("utf-8")

    @contextmanager
    def _stream(self) -> Iterator[None]:
        if self._streams >= MAX_STREAMS:
            raise TooManyError("streams", MAX_STREAMS)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


class GrowingLog:
    """A log that is read again and again.

    :ivar seconds: how long the last reading took.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._size = 0
        self._digest = hashlib.sha256()

    async def new_part(self, log: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the part of the log that was not yielded before.

        :param log: the log from its beginning.
        :raises LogRewrittenError: if it does not begin with what was yielded before.
        """
        began = time.monotonic()
        to_skip, expected, digest = self._size, self._digest.digest(), hashlib.sha256()
        async with aclosing(log):
            async for chunk in log:
                # A digest instead of the text: the memory of a stream does not grow with its log.
                old, new = chunk[:to_skip], chunk[to_skip:]
                to_skip -= len(old)
                digest.update(old)
                if new:
                    if digest.digest() != expected:
                        raise LogRewrittenError
                    self._size += len(new)
                    self._digest.update(new)
                    yield new
        # Also without anything new: the log may have become shorter, or have been replaced by one of the same length.
        if to_skip or digest.digest() != expected:
            raise LogRewrittenError
        self.seconds = time.monotonic() - began


async def empty_log() -> AsyncGenerator[list[str], None]:
    """Yield the events of an empty log."""
    yield [COMPLETE]
