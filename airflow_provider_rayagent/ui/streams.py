"""Send logs to viewers: as server-sent events, or as a file. Bounds how many streams there are, and how fast."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.ui.shared_logs import (
    Batch,
    FollowedLog,
    FollowedLogs,
    Place,
    end_of,
    follower_of,
    records_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping

    from starlette.types import Receive, Scope, Send

    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.ui.user_connections import PageHook

MAX_STREAMS = 100
MAX_STREAMS_PER_USER = 10
BYTES_PER_SECOND = 2_000_000
"""To one viewer."""
BATCH = 500
"""Records in one event."""
MIN_PAUSE, MAX_PAUSE = 0.05, 0.5
"""Seconds between two looks at a log that grows: short at first, but many viewers do not get each line by itself."""
KEEP_ALIVE_SECONDS = 5.0
"""After which a silent stream sends a comment, which also shows whether the viewer is still there."""
STREAM_SECONDS = 60.0
"""After which a browser has to connect again, so that its user's permission is checked again, and so that streams do
not delay the end of the API server for longer."""
RECONNECT_MILLISECONDS = 300
MAX_SILENT_SECONDS = 45.0
"""After which a download of which nothing more arrives ends with the reason, before a proxy ends it without one."""
SHUTDOWN_SECONDS = 1.0
"""Between two checks whether the API server has to end."""
STALLED_SECONDS = 30.0
"""After which a stream ends whose viewer does not read."""

ALL_LINES = DisplaySettings(levels=False, progress_interval=None)

logs = FollowedLogs()


class Slots:
    """The open streams, of each user and in all. Only the thread of the event loop may use it."""

    def __init__(self, per_user: int = MAX_STREAMS_PER_USER, total: int = MAX_STREAMS) -> None:
        self._per_user = per_user
        self._total = total
        self._open: Counter[str] = Counter()

    def take(self, user: str) -> None:
        """Count a stream; call :meth:`release` at its end.

        :raises HTTPException: 429 if there are too many.
        """
        if self._open[user] >= self._per_user:
            raise HTTPException(429, f"You have {self._per_user} logs open, the maximum: close one of them.")
        if self._open.total() >= self._total:
            raise HTTPException(429, f"{self._total} logs are open on this API server, the maximum: try again later.")
        self._open[user] += 1

    def release(self, user: str) -> None:
        """Count a stream less."""
        self._open[user] -= 1
        # A Counter keeps keys whose count is 0, one for each user who ever opened a log.
        if not self._open[user]:
            del self._open[user]


slots = Slots()


class Pace:
    """The rate of one stream.

    :param rate: bytes per second.
    """

    def __init__(self, rate: float = BYTES_PER_SECOND) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def spend(self, size: int) -> None:
        """Wait until a number of bytes may be sent."""
        now = time.monotonic()
        # What was not sent in time is not saved up, or a long silence would allow a burst.
        self._free_at = max(self._free_at, now) + size / self._rate
        # Up to a second's worth may be sent at once.
        if self._free_at > now + 1.0:
            await asyncio.sleep(self._free_at - now - 1.0)


def server_is_ending() -> bool:
    """Whether the API server has received SIGTERM.

    Then uvicorn waits for the end of all responses without telling the application (``Server.shutdown`` in
    ``uvicorn/server.py``). But its handler of the signal is a method of the server, whose attribute tells it.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


class LogResponse(StreamingResponse):
    """A stream that occupies one of a user's slots until it ends.

    It ends early, without its last bytes, if the viewer does not read, or soon after the API server has to end.

    :param user: who has taken the slot.
    """

    def __init__(self, content: AsyncGenerator[str, None], user: str, **kwargs: Any) -> None:
        super().__init__(content, **kwargs)
        self._content = content
        self._user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""

        async def send_in_time(message: MutableMapping[str, Any]) -> None:
            # Uvicorn's `send` waits for a viewer that does not read, however long; the stream would keep its slot.
            with anyio.move_on_after(STALLED_SECONDS) as sending:
                await send(message)
            if sending.cancelled_caught:
                stream.cancel()

        try:
            with anyio.CancelScope() as stream:
                watch = asyncio.create_task(_cancel_at_shutdown(stream))
                try:
                    # Starlette does not close the generator of a cancelled response, whose end counts a viewer less.
                    async with aclosing(self._content):
                        await super().__call__(scope, receive, send_in_time)
                finally:
                    watch.cancel()
        finally:
            # Last, and whatever happens: the route has taken the slot before there was a response.
            slots.release(self._user)


async def _cancel_at_shutdown(stream: anyio.CancelScope) -> None:
    while not server_is_ending():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(SHUTDOWN_SECONDS)
    # A stream of events ends by itself.
    await asyncio.sleep(SHUTDOWN_SECONDS)
    stream.cancel()


async def events(
    key: tuple[str, str],
    create: Callable[[], FollowedLog],
    last_event: str,
    has_left: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[str, None]:
    """Yield a job's log as server-sent events, from the newest records that are kept on.

    A stream ends after :data:`STREAM_SECONDS`; the viewer continues with the id of the last event that it got.

    An event ``records`` has a list of ``[level, text, is_from_job]``; ``skipped`` has the number of records that are
    not sent; ``restart`` means that what follows is the log from its beginning; ``reported`` has the job's progress and
    links, each time that they have changed; ``end`` has the reason, empty if the log is complete, and is the last one.

    :param last_event: id of the last event that the viewer got, from an earlier stream of the log, perhaps of another
        API server process: then the viewer gets what follows its last line as soon as that has been read again.
    :param has_left: whether the viewer has closed the connection.
    """
    # Here and not in the route: a generator that is never started does not reach its `finally`.
    log = logs.join(key, create)
    pace = Pace()
    try:
        position, place = _seen(last_event, log)
        sent_at = time.monotonic()
        deadline = sent_at + STREAM_SECONDS
        pause = MIN_PAUSE
        reported = ""
        # Browsers otherwise wait some seconds before they reconnect, and a stream ends every minute.
        yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
        while time.monotonic() < deadline and not server_is_ending() and not await has_left():
            # Read before the batch, which then has all that precedes the end.
            end = log.end
            # The viewer comes from another follower, whose positions mean nothing here; the number of a line does.
            if position is None and place is not None and log.has_reached(place):
                position = log.position_after(place)
                place = None if position is None else place
            if position is None and (place is None or end is not None):
                yield _event("restart", '""')
                position = 0
            if log.reported != reported:
                reported = log.reported
                text = _event("reported", reported or "null")
                await pace.spend(len(text))
                yield text
            batch = Batch([], 0, 0) if position is None else log.batch(position, BATCH)
            if batch.skipped:
                yield _event("skipped", str(batch.skipped))
            if batch.rows:
                position, place = batch.position, Place.of(batch.rows) or place
                text = _event("records", f"[{', '.join(row.json for row in batch.rows)}]", _id(log, position, place))
                await pace.spend(len(text))
                yield text
                sent_at = time.monotonic()
            elif end is not None:
                yield _event("end", json.dumps(end))
                return
            elif time.monotonic() >= sent_at + KEEP_ALIVE_SECONDS:
                yield ":\n\n"
                sent_at = time.monotonic()
            # A full batch means that more is there already; only the pace delays that.
            if len(batch.rows) < BATCH and end is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
    finally:
        logs.leave(key, log)


async def text_of(hook: PageHook, job_id: JobId) -> AsyncGenerator[str, None]:
    """Yield the job's current log as text.

    A notice about the log is a line in brackets, and so is the reason at the end of a log that is not whole.
    """
    pace = Pace()
    try:
        async with hook:
            follower = await follower_of(hook, job_id, once=True)
            rendering = JobRecords(follower.job_id, ALL_LINES, redact=follower.redact)
            async with aclosing(records_of(follower, rendering, patience=MAX_SILENT_SECONDS)) as found:
                async for records in found:
                    text = "".join(map(_line, records))
                    if text:
                        await pace.spend(len(text))
                        yield text
            reason = end_of(follower)
            if reason:
                yield f"[{reason}]\n"
    except RayAgentError as error:
        # The status 200 was sent before, so only the text can tell.
        yield f"[{error.detail}]\n"


def _id(log: FollowedLog, position: int, place: Place | None) -> str:
    """Return the id of an event: what follows it in this log, and in that of another process."""
    return "-".join(map(str, (log.name, position, *(place or ()))))


def _seen(event_id: str, log: FollowedLog) -> tuple[int | None, Place | None]:
    """Return what an id tells: the position in this log, ``None`` if it is of another process; the last line.

    :param event_id: from a viewer.
    """
    name, *numbers = event_id.split("-")
    if len(numbers) not in (1, 3) or not all(each.isdecimal() for each in numbers):
        return None, None
    position, *line = map(int, numbers)
    return position if name == log.name else None, Place(*line) if line else None


def _event(kind: str, data: str, number: str | None = None) -> str:
    """Return an event.

    :param data: JSON.
    """
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n"


def _line(record: Record) -> str:
    """Return a record as a part of a text: nothing for a status of the job."""
    if record.from_job:
        return f"{record.text}\n"
    return f"[{record.text}]\n" if record.level > logging.INFO else ""
