"""Checks of ``doctor`` of one job's log: read as a whole, and as streams."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.connection_check import Finding, Result
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.transport.live_logs import open_stream
from airflow_provider_rayagent.transport.log_responses import StreamEndedError, opened_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from airflow_provider_rayagent.services.service import LogStreams
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.commands import StreamSource
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

    StreamCheck = Literal["WebSocket", "SSE"]

# Ray sends the first text of a live log 1 to 2 s after the connection; a proxy that buffers holds it for much longer.
STREAM_SECONDS = 5.0
"""How long a stream may take to its first event, if the log has text."""
_SOURCES: dict[StreamCheck, StreamSource] = {"WebSocket": "websocket", "SSE": "http"}
_REMEDIES: dict[StreamCheck, str] = {
    "WebSocket": "Let all proxies up to the service pass WebSocket (the header Upgrade). Until then, logs are read "
    "over server-sent events.",
    "SSE": "Let all proxies up to the service pass server-sent events without buffering (nginx: proxy_buffering off). "
    "Until then, logs are read over WebSocket, or by polling.",
}


def check_log(client: BlockingServiceClient, job_id: JobId) -> Iterator[Finding]:
    """Yield whether the log of a job can be read, and whether it arrives as a stream."""
    finding, has_text = finish(_check_whole_log(client, job_id))
    yield finding
    streams = client.config.service.streams
    for check in _SOURCES:
        if streams is None:
            yield Finding(check, Result.NOT_APPLICABLE, "Logs of this service are read by polling, not as a stream.")
        else:
            yield finish(_check_stream(check, client, streams, job_id, has_text=has_text))


async def _check_whole_log(client: BlockingServiceClient, job_id: JobId) -> tuple[Finding, bool]:
    """Return whether the log of a job can be read, and whether it has text. Only its beginning is read."""
    text: str | None = ""
    try:
        async with opened_log(client, job_id) as log:
            # An empty text means that nothing came for a while; only `None` is the end.
            while log is not None and text == "":
                text = await log.read()
    except RayAgentError as error:
        return Finding("job log", Result.PROBLEM, f"The log of job {job_id} cannot be read: {error.detail}"), False
    if not text:
        return Finding("job log", Result.OK, f"The log of job {job_id} can be read; it is empty."), False
    return Finding("job log", Result.OK, f"The log of job {job_id} can be read."), True


async def _check_stream(
    check: StreamCheck, client: BlockingServiceClient, streams: LogStreams, job_id: JobId, *, has_text: bool
) -> Finding:
    """Return whether a stream of a job's log can be opened, and whether its text arrives at once.

    :param has_text: whether there is text that must arrive.
    """
    source = _SOURCES[check]
    try:
        stream = await open_stream(client, OpenLiveLog(source, streams.open(job_id, source), streams.decode_event))
    except RayAgentError as error:
        return Finding(
            check, Result.PROBLEM, f"The stream cannot be opened: {sentence(error.detail)} {_REMEDIES[check]}"
        )
    # A stream without text says nothing for as long as the job is silent, so waiting would prove nothing.
    if not has_text:
        await stream.aclose()
        return Finding(check, Result.OK, f"The stream of job {job_id} can be opened; its log is empty.")
    until = time.monotonic() + STREAM_SECONDS
    async with aclosing(stream):
        try:
            while (left := until - time.monotonic()) > 0:
                events, _ = await stream.read(left)
                if events:
                    return Finding(check, Result.OK, f"The log of job {job_id} arrives as a stream.")
        except StreamEndedError:
            return Finding(check, Result.PROBLEM, f"The stream ended before the first line. {_REMEDIES[check]}")
    late = f"No line came within {STREAM_SECONDS:g} seconds, although the log has lines."
    return Finding(check, Result.PROBLEM, f"{late} {_REMEDIES[check]}")
