"""The logs that users look at: in each process of the API server, one reader for each of them.

A browser asks every few seconds for what follows the last line that it has. The next request may reach another process,
whose reader may have begun later: a position is the number of a line in the log, which is the same in all of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import zlib
from collections import deque
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from fastapi import HTTPException

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.run.follow import Sink, follow
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.transport.tail_driver import tail_settings
from airflow_provider_rayagent.ui.page_thread import rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.render.messages import MessageFinder
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
    from airflow_provider_rayagent.transport.tail_driver import Follower
    from airflow_provider_rayagent.ui.user_connections import PageHook, ViewedService

KEPT_RECORDS = 10_000
KEPT_CHARS = 2_000_000
"""Of the JSON of the records that are kept of one log."""
ANSWER_CHARS = 500_000
"""Of the JSON of the records in one response, which may have one record more."""
MAX_LINE = 20_000
"""Characters of a line in the page; the download has all of it."""
POLL_SECONDS = 3.0
UNREACHABLE_SECONDS = 30.0
PORTION = 200
"""Lines that are processed without a pause for other requests."""
LINGER_SECONDS = 10.0
"""How long a log is read after the last request for it, and a failure is told to all who ask."""
MAX_LOGS, MAX_LOGS_PER_USER = 100, 10
"""Logs that one process reads at the same time: in all, and of those that one user was the first to ask for."""
_LEVELS = {level: logging.getLevelName(level).lower() for level in (logging.INFO, logging.WARNING, logging.ERROR)}
_ENDS = {
    End.JOB_MISSING: "The job does not exist any more.",
    End.CLUSTER_GONE: "The cluster is gone.",
    End.AGENT_UNREACHABLE: "The job's status cannot be read.",
}


class Row(NamedTuple):
    """A record as users get it.

    :param json: ``[level, text, is_from_job]``.
    :param number: see :class:`.Record`.
    """

    json: str
    number: int | None

    @classmethod
    def of(cls, record: Record) -> Row:
        """Return the row of a record."""
        text = record.text if len(record.text) <= MAX_LINE else f"{record.text[:MAX_LINE]}… [line cut]"
        level = _LEVELS.get(record.level, "error" if record.level > logging.ERROR else "info")
        return cls(json.dumps((level, text, record.from_job)), record.number)

    @property
    def digest(self) -> int:
        """A digest of the record, the same in all processes, as that of ``hash`` is not."""
        return zlib.crc32(self.json.encode())


class ViewPosition(NamedTuple):
    """What a user has got of a log.

    :param lines: number of lines, including those that are not shown or not kept any more.
    :param digest: of the row of the last one.
    :param messages: number of rows after it that are no lines of the log.
    """

    lines: int = 0
    digest: int = 0
    messages: int = 0

    @classmethod
    def parse(cls, text: str) -> ViewPosition | None:
        """Return the position that :meth:`__str__` has given to a browser; ``None`` for anything else."""
        parts = text.split("-")
        is_position = len(parts) == len(cls._fields) and all(part.isascii() and part.isdecimal() for part in parts)
        return cls(*map(int, parts)) if is_position else None

    def __str__(self) -> str:
        return "-".join(map(str, self))

    def after(self, rows: Sequence[Row]) -> ViewPosition:
        """Return the position after more rows."""
        for messages, row in enumerate(reversed(rows)):
            if row.number is not None:
                return ViewPosition(row.number + 1, row.digest, messages)
        return self._replace(messages=self.messages + len(rows))


class LogReader(Sink):
    """Read the log of one job, and keep its newest records.

    :param user: who has asked for it first.
    """

    portion = PORTION

    def __init__(self, hook: PageHook, job_id: JobId, user: str) -> None:
        self.user = user
        self.end: str | None = None
        """Why nothing follows, empty if the log is complete; ``None`` while it is read."""
        self.reported = ""
        """JSON of what the job has reported, see :class:`Reported`; empty if that is nothing."""
        self._hook = hook
        self._job_id = job_id
        self._described = Reported(NO_SECRETS)
        self._rows: deque[Row] = deque()
        self._chars = 0
        self._dropped = 0
        self._asked_at = time.monotonic()

    async def run(self) -> None:
        """Read the log to its end, or until nobody has asked for it for a while; keep the records that long."""
        try:
            await self._read()
        except RayAgentError as error:
            self.end = error.detail
        # Nobody awaits this, so the exception would be lost.
        except Exception:
            logging.getLogger(__name__).exception("Reading the log of job %s failed", self._job_id)
            self.end = "The log cannot be read: an internal error, see the log of Airflow's API server."
        # Then the next request for a log that could not be read tries it again.
        failure_ends = time.monotonic() + (LINGER_SECONDS if self.end else math.inf)
        while not self._is_forgotten() and time.monotonic() < failure_ends:  # noqa: ASYNC110 - no event ends it
            await asyncio.sleep(1.0)

    def answer(self, after: str) -> str:
        """Return what follows a position, as JSON.

        It has ``rows``, each ``[level, text, is_from_job]``; ``after``, the position after them; ``restart``: whether
        they replace what the browser has; ``skipped``, the number of lines before them that are not kept; ``more``:
        whether more rows are there already; ``reported``, see :class:`Reported`; ``end``, see :attr:`end`.

        :param after: ``after`` of an earlier answer, perhaps of another process; empty for the first one.
        """
        self._asked_at = time.monotonic()
        # Read before the rows, which then include all that precedes the end.
        end = self.end
        position = ViewPosition.parse(after)
        found = None if position is None else self._find(position, is_over=end is not None)
        start, skipped = (0, self._dropped) if found is None else found
        rows: list[Row] = []
        size = 0
        for row in islice(self._rows, start, None):
            if size > ANSWER_CHARS:
                break
            rows.append(row)
            size += len(row.json)
        new = (ViewPosition() if found is None or position is None else position).after(rows)
        more = start + len(rows) < len(self._rows)
        fields = {
            "after": str(new),
            "restart": found is None,
            "skipped": skipped,
            "more": more,
            "end": None if more else end,
        }
        # The rows are JSON already.
        joined = ", ".join(row.json for row in rows)
        return f'{json.dumps(fields)[:-1]}, "reported": {self.reported or "null"}, "rows": [{joined}]}}'

    def _find(self, position: ViewPosition, *, is_over: bool) -> tuple[int, int] | None:
        """Return the index of the row after a position, and how many lines between them are not kept.

        ``None`` if the position is one in another log: that of an earlier or a later job with this id.
        """
        at, following = len(self._rows) - 1, None
        # From the end, where most users are.
        for row in reversed(self._rows):
            if row.number is not None:
                if row.number < position.lines:
                    break
                following = row.number
            at -= 1
        lines = (self._rows[at].number or 0) + 1 if at >= 0 else 0
        # Otherwise the line of the position is a state of a progress bar, of which each process shows others.
        if at >= 0 and lines == position.lines and self._rows[at].digest != position.digest:
            return None
        if lines < position.lines and following is None:
            # This process has not read so far yet.
            return None if is_over else (len(self._rows), 0)
        rest_of_rows = islice(self._rows, at + 1, at + 1 + position.messages)
        messages = sum(1 for _ in takewhile(lambda row: row.number is None, rest_of_rows))
        missing = following - position.lines if at < 0 and following is not None else 0
        return at + 1 + messages, max(missing, 0)

    async def _read(self) -> None:
        async with self._hook as hook:
            follower = await follower_of(hook, self._job_id)
            rendering = JobRecords(
                follower.job_id, messages=True, redact=follower.redact, credentials=follower.credentials
            )
            self._described = Reported(follower.redact)
            await follow(follower, rendering, self)
            if not self._is_forgotten():
                self.end = end_of(follower)

    async def write(self, records: Sequence[Record]) -> None:
        """Keep records."""
        rows = [Row.of(record) for record in records]
        self._rows.extend(rows)
        self._chars += sum(len(row.json) for row in rows)
        while len(self._rows) > KEPT_RECORDS or self._chars > KEPT_CHARS:
            self._chars -= len(self._rows.popleft().json)
            self._dropped += 1
        rest()
        # Requests in this loop are answered between two portions.
        await asyncio.sleep(0)

    async def wrote(self, follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:  # noqa: ARG002
        """Keep what the job has reported. Return whether somebody still asks for it."""
        self.reported = self._described.json_of(records.printed.messages)
        return not self._is_forgotten()

    def _is_forgotten(self) -> bool:
        return time.monotonic() > self._asked_at + LINGER_SECONDS


class LogReaders:
    """The logs that this process reads. Only the thread of the page may use it."""

    def __init__(self) -> None:
        self._readers: dict[tuple[ViewedService, JobId], LogReader] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def answer(self, viewed: ViewedService, job_id: JobId, user: str, after: str) -> str:
        """Return what follows a position in a log; see :meth:`LogReader.answer`.

        :raises HTTPException: 429 if too many logs are being read.
        """
        key = viewed, job_id
        reader = self._readers.get(key)
        if reader is None:
            self._check_bounds(user)
            reader = self._readers[key] = LogReader(viewed.hook(), job_id, user)
            task = asyncio.create_task(self._run(key, reader))
            # The event loop itself keeps only weak references.
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return reader.answer(after)

    def _check_bounds(self, user: str) -> None:
        own = sum(reader.user == user for reader in self._readers.values())
        if own >= MAX_LOGS_PER_USER:
            raise HTTPException(429, f"You have {own} logs open, the maximum: close one of them.")
        if len(self._readers) >= MAX_LOGS:
            raise HTTPException(429, f"{MAX_LOGS} logs are open on this API server, the maximum: try again later.")

    async def _run(self, key: tuple[ViewedService, JobId], reader: LogReader) -> None:
        try:
            await reader.run()
        finally:
            del self._readers[key]


readers = LogReaders()


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
