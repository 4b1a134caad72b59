"""The log of a job as a file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import anyio
from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.items import in_portions
from airflow_provider_rayagent.ui.page_thread import page_thread, rest
from airflow_provider_rayagent.ui.viewed_logs import PORTION, end_of, follower_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, MutableMapping
    from typing import Any

    from starlette.types import Receive, Scope, Send

    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.ui.user_connections import PageHook

MAX_DOWNLOADS_PER_USER = 3
MAX_SILENT_SECONDS = 45.0
"""After which a download of which nothing more arrives ends with the reason, before a proxy ends it without one."""
STALLED_SECONDS = 30.0
"""After which a download ends whose client does not read."""

ALL_LINES = DisplaySettings(levels=False, progress_interval=None)

_downloads: Counter[str] = Counter()
"""The downloads of each user. Only the thread of the API server's event loop may use it."""


class LogFile(StreamingResponse):
    """A response with the current log of a job. It ends early, without its last bytes, if the client does not read.

    :param user: who has asked for it.
    :raises HTTPException: 429 if the user has too many.
    """

    def __init__(self, hook: PageHook, job_id: JobId, user: str) -> None:
        if _downloads[user] >= MAX_DOWNLOADS_PER_USER:
            raise HTTPException(429, f"You have {_downloads[user]} downloads, the maximum: wait for the end of one.")
        self._content = page_thread.iterate(text_of(hook, job_id))
        self._user = user
        # A valid id has no quotes or newlines, so it needs no escaping here. The first header is for nginx.
        headers = {
            "X-Accel-Buffering": "no",
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{job_id}.log"',
        }
        super().__init__(self._content, media_type="text/plain", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""

        async def send_in_time(message: MutableMapping[str, Any]) -> None:
            # Uvicorn's `send` waits for a client that does not read, however long.
            with anyio.move_on_after(STALLED_SECONDS) as sending:
                await send(message)
            if sending.cancelled_caught:
                response.cancel()

        _downloads[self._user] += 1
        try:
            # Starlette does not close the generator of a cancelled response.
            with anyio.CancelScope() as response:
                async with aclosing(self._content):
                    await super().__call__(scope, receive, send_in_time)
        finally:
            _downloads[self._user] -= 1
            # A Counter keeps keys whose count is 0, one for each user who ever downloaded a log.
            if not _downloads[self._user]:
                del _downloads[self._user]


async def text_of(hook: PageHook, job_id: JobId) -> AsyncGenerator[str, None]:
    """Yield the job's current log as text.

    A notice about the log is a line in brackets, and so is the reason at the end of a log that is not whole.
    """
    try:
        async with hook:
            follower = await follower_of(hook, job_id, once=True)
            rendering = JobRecords(follower.job_id, ALL_LINES, redact=follower.redact)
            async with aclosing(follower.items()) as found:
                until = time.monotonic() + MAX_SILENT_SECONDS
                while True:
                    items = None
                    with suppress(StopAsyncIteration), anyio.move_on_after(until - time.monotonic()):
                        items = await anext(found)
                    # `None` after the end or the timeout; the follower itself also yields empty lists.
                    if items is None:
                        break
                    for portion in in_portions(items, PORTION):
                        yield _text(rendering.render(portion, time.monotonic()))
                        rest()
                        # Requests in this loop are answered between two portions.
                        await asyncio.sleep(0)
                    if items:
                        until = time.monotonic() + MAX_SILENT_SECONDS
            yield _text(rendering.finish())
            reason = end_of(follower)
            if reason:
                yield f"[{reason}]\n"
    except RayAgentError as error:
        # The status 200 was sent before, so only the text can tell.
        yield f"[{error.detail}]\n"


def _text(records: list[Record]) -> str:
    return "".join(map(_line, records))


def _line(record: Record) -> str:
    """Return a record as a part of a text: nothing for a status of the job."""
    if record.from_job:
        return f"{record.text}\n"
    return f"[{record.text}]\n" if record.level > logging.INFO else ""
