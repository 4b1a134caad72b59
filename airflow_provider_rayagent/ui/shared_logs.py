"""Follow the logs of jobs once for all viewers.

A follower runs while somebody views its log, and a little longer. It keeps the newest records: a viewer gets those, and
then what follows. A viewer that is too slow misses records instead of delaying the follower.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
import zlib
from collections import deque
from contextlib import aclosing, suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import anyio

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import in_portions
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.transport.tail_driver import tail_settings
from airflow_provider_rayagent.ui.page_thread import page_thread, rest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
    from concurrent.futures import Future

    from airflow_provider_rayagent.render.messages import MessageFinder
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
    from airflow_provider_rayagent.ui.user_connections import PageHook

KEPT_RECORDS = 10_000
KEPT_CHARS = 2_000_000
"""Of the JSON of the records that are kept of one log."""
MAX_LINE = 20_000
"""Characters of a line in the page; the download has all of it."""
POLL_SECONDS = 3.0
UNREACHABLE_SECONDS = 30.0
PORTION = 200
"""Lines that are processed without a pause for other requests."""
LINGER_SECONDS = 5.0
"""How long a log is followed without viewers, for those that connect again."""
MAX_LINGERING = 10
"""Logs that are followed without viewers. Otherwise one user could open and leave any number."""
_LEVELS = {level: logging.getLevelName(level).lower() for level in (logging.INFO, logging.WARNING, logging.ERROR)}
_ENDS = {
    End.JOB_MISSING: "The job does not exist any more.",
    End.AGENT_UNREACHABLE: "The job's status cannot be read.",
}


class PageRecord(NamedTuple):
    """A record as viewers get it.

    :param json: ``[level, text, is_from_job]``.
    :param number: see :class:`.Record`.
    """

    json: str
    number: int | None


class Place(NamedTuple):
    """A line that a viewer has got, by which another process that follows the same log can continue.

    :param number: of the line in the log.
    :param digest: of its row.
    """

    number: int
    digest: int

    @classmethod
    def of(cls, rows: Sequence[PageRecord]) -> Place | None:
        """Return the last line among rows; ``None`` if there is none."""
        last = next((row for row in reversed(rows) if row.number is not None), None)
        # Not `hash`, which differs between processes (PYTHONHASHSEED).
        return None if last is None or last.number is None else cls(last.number, zlib.crc32(last.json.encode()))


class Batch(NamedTuple):
    """Records for one viewer.

    :param position: where the next batch begins.
    :param skipped: number of records before these that the viewer does not get.
    """

    rows: list[PageRecord]
    position: int
    skipped: int


class FollowedLog:
    """The log of one job, which is followed in the thread of the page, and viewed in others."""

    def __init__(self, hook: PageHook, job_id: JobId) -> None:
        # Without hyphens, which separate the parts of an event's id.
        self.name = uuid4().hex
        """Distinguishes it from later followers of the same log."""
        self.end: str | None = None
        """Why nothing follows, empty if the log is complete; ``None`` while it is followed."""
        self.viewers = 0
        self.reported = ""
        """JSON of what the job has reported, see :class:`Reported`; empty if that is nothing."""
        self._hook = hook
        self._job_id = job_id
        # Held for short copies only, since viewers read in the event loop of the API server.
        self._lock = threading.Lock()
        self._rows: deque[PageRecord] = deque()
        self._chars = 0
        # Positions count from the first record of all, so they stay valid when old records are dropped.
        self._first = 0
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._running = page_thread.start(self._follow())

    def close(self) -> None:
        """Stop following."""
        if self._running is not None:
            self._running.cancel()

    def batch(self, position: int, size: int) -> Batch:
        """Return up to ``size`` records from a position on."""
        with self._lock:
            start = max(position, self._first)
            found = list(islice(self._rows, start - self._first, start - self._first + size))
        return Batch(found, start + len(found), start - position)

    def has_reached(self, place: Place) -> bool:
        """Whether the line at a place has been read, or one after it."""
        with self._lock:
            last = next((row.number for row in reversed(self._rows) if row.number is not None), -1)
        return last >= place.number

    def position_after(self, place: Place) -> int | None:
        """Return the position after a line that was reached; ``None`` if this log has another line there."""
        with self._lock:
            position, following = self._first + len(self._rows), place.number + 1
            for row in reversed(self._rows):
                if row.number is not None and row.number <= place.number:
                    # If it is missing, it is a state of a progress bar, of which each process shows others.
                    return position if row.number < place.number or Place.of([row]) == place else None
                position -= 1
                following = following if row.number is None else row.number
        # The lines in between are not kept any more.
        return position - (following - place.number - 1)

    async def _follow(self) -> None:
        end = "The log cannot be followed: an internal error, see the log of Airflow's API server."
        try:
            async with self._hook as hook:
                follower = await follower_of(hook, self._job_id)
                rendering = JobRecords(
                    follower.job_id, messages=True, redact=follower.redact, credentials=follower.credentials
                )
                reported = Reported(follower.redact)
                async with aclosing(records_of(follower, rendering)) as found:
                    async for records in found:
                        self._add(records)
                        self.reported = reported.json_of(rendering.printed.messages)
                end = end_of(follower)
        except RayAgentError as error:
            end = error.detail
        # Nobody awaits this, so the exception would be lost.
        except Exception:
            logging.getLogger(__name__).exception("Following the log of job %s failed", self._job_id)
        finally:
            # Also after a cancellation: a viewer who joined in time must not wait for a log that nobody follows.
            self.end = end

    def _add(self, records: Iterable[Record]) -> None:
        rows = [_page_record(record) for record in records]
        with self._lock:
            self._rows.extend(rows)
            self._chars += sum(len(row.json) for row in rows)
            while len(self._rows) > KEPT_RECORDS or self._chars > KEPT_CHARS:
                self._chars -= len(self._rows.popleft().json)
                self._first += 1


class FollowedLogs:
    """The logs that are being viewed."""

    def __init__(self, linger: float = LINGER_SECONDS) -> None:
        self._linger = linger
        self._logs: dict[Hashable, FollowedLog] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def join(self, key: Hashable, create: Callable[[], FollowedLog]) -> FollowedLog:
        """Return the followed log of a job, and count a viewer; call :meth:`leave` at the end."""
        log = self._logs.get(key)
        # One that failed is of no use to a new viewer, whoever still looks at the reason.
        if log is None or log.end or (log.end is not None and not log.viewers):
            log = self._logs[key] = create()
            log.start()
        log.viewers += 1
        return log

    def leave(self, key: Hashable, log: FollowedLog) -> None:
        """Count a viewer less; without viewers, the log is soon not followed any more."""
        log.viewers -= 1
        if not log.viewers:
            linger = self._linger if len(self._closing) < MAX_LINGERING else 0.0
            task = asyncio.create_task(self._close_later(key, log, linger))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_later(self, key: Hashable, log: FollowedLog, linger: float) -> None:
        await asyncio.sleep(linger)
        if not log.viewers:
            if self._logs.get(key) is log:
                del self._logs[key]
            log.close()


async def follower_of(hook: PageHook, job_id: JobId, *, once: bool = False) -> AsyncFollower:
    """Return a follower for a job's log.

    :param once: whether to read the current log only.
    """
    settings = tail_settings(
        "auto",
        poll_interval=POLL_SECONDS,
        unreachable_timeout=UNREACHABLE_SECONDS,
        # The log so far has all states of a progress bar.
        progress_interval=None if once else 5.0,
        once=once,
        unfinished=once,
    )
    return await hook.follow_job(job_id, settings)


async def records_of(
    follower: AsyncFollower, rendering: JobRecords, *, patience: float = math.inf
) -> AsyncGenerator[list[Record], None]:
    """Yield the records of a job's log.

    :param patience: seconds without anything new after which to stop; the follower then has no ``end``.
    """
    async with aclosing(follower.items()) as found:
        until = time.monotonic() + patience
        while True:
            items = None
            with suppress(StopAsyncIteration), anyio.move_on_after(until - time.monotonic()):
                items = await anext(found)
            # `None` after the end or the timeout; the follower itself also yields empty lists.
            if items is None:
                break
            for portion in in_portions(items, PORTION):
                yield rendering.render(portion, time.monotonic())
                rest()
                # Requests in this loop run between two portions.
                await asyncio.sleep(0)
            if items:
                until = time.monotonic() + patience
    yield rendering.finish()


class Reported:
    """Describe what a job has reported, again and again.

    :param redact: redacts secrets in the links; those in the progress are redacted already.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._described: tuple[object, ...] = ()
        self._links = ""

    def json_of(self, messages: MessageFinder) -> str:
        """Return what a job has reported, as JSON; empty if that is nothing.

        It has ``progress``, null or ``fraction`` (from 0 to 1, null if unknown) and ``text``, and the ``links``, each
        with ``name`` and ``url``.
        """
        progress, links = messages.progress, messages.links
        if progress is None and not links:
            return ""
        # Many links take milliseconds. More secrets may be known than the last time.
        described = (tuple(links.items()), self._redact.forms)
        if self._described != described:
            self._described = described
            shown = [{"name": self._redact(name), "url": self._redact(url)} for name, url in links.items()]
            self._links = json.dumps(shown)
        shown_progress = progress and {"fraction": progress.fraction, "text": sanitize(str(progress))}
        return f'{{"progress": {json.dumps(shown_progress)}, "links": {self._links}}}'


def _page_record(record: Record) -> PageRecord:
    text = record.text if len(record.text) <= MAX_LINE else f"{record.text[:MAX_LINE]}… [line cut]"
    level = _LEVELS.get(record.level, "error" if record.level > logging.ERROR else "info")
    return PageRecord(json.dumps((level, text, record.from_job)), record.number)


def end_of(follower: AsyncFollower) -> str:
    """Return why a follower has ended before the end of the log, or of what there is of it; or an empty string."""
    if follower.end in _ENDS:
        return follower.error.detail if follower.error is not None else _ENDS[follower.end]
    error = follower.log_error
    if follower.log_is_whole or (follower.end is End.CHECKED_ONCE and error is None):
        return ""
    silent = follower.end is None
    end = "No more of the log was received in time." if silent else "The end of the log cannot be read."
    return end if error is None else f"{end} {follower.redact(error.detail)}"
