"""Drive a tail: carry out its commands over a transport."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAbsentError,
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.errors.transience import is_log_unreadable, is_permanent
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.services.validation import Protocol, validate_protocol
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import Item, JobStatusChanged
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.tail.outage import Outage
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.transport.log_responses import StreamEndedError, WholeLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.transport.live_logs import LogStream
    from airflow_provider_rayagent.transport.service_client import ServiceClient

SOURCES: dict[Protocol, tuple[StreamSource, ...]] = {
    "auto": ("websocket", "http"),
    "websocket": ("websocket",),
    "http": ("http",),
}
"""The stream sources of a protocol, in order of preference."""


def tail_settings(protocol: object, *, start_by: float | None = None, **settings: Any) -> TailSettings:
    """Return the settings of a tail.

    :param protocol: one of :data:`PROTOCOLS`.
    :param start_by: time (seconds since the epoch) by which the job must have started; ``None``: no limit.
    :param settings: other fields of :class:`TailSettings`.
    :raises RayAgentInputError: for an invalid protocol.
    """
    # ``start_by`` is in the kwargs of triggers, so that it has to hold in another process, unlike monotonic time.
    start_timeout = None if start_by is None else max(start_by - time.time(), 0.0)
    return TailSettings(sources=SOURCES[validate_protocol(protocol)], start_timeout=start_timeout, **settings)


def settings_for(service: Service, settings: TailSettings) -> TailSettings:
    """Return settings without the streams that the service does not have, and with its ways to read the log."""
    sources = service.streams.sources if service.streams else ()
    usable = tuple(source for source in settings.sources if source in sources)
    return replace(settings, sources=usable, log_interval=service.log_interval, last_lines=service.can_read_last_lines)


class Follower:
    """One followed job; the attributes contain the outcome.

    :param deadline: seconds from now after which to give up.
    :param clock: monotonic, in seconds.
    """

    def __init__(
        self,
        client: ServiceClient,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = client.config
        self.job_id = job_id
        self.base_url = config.base_url
        """URL of the service."""
        self.clock = clock
        self.redact = Redactor(base=config.redact)
        """Redacts the secrets of the connection, and those of the job once its details are known."""
        self.credentials = config.credentials
        """Redacts the secrets of the connection alone."""
        self._client = client
        self._service = config.service
        self._may_come_and_go = config.cluster is not None
        self._stream: LogStream | None = None
        self._whole: WholeLog | None = None
        self._service_clock = config.clock
        until = None if deadline is None else clock() + deadline
        self.tail = Tail(settings_for(self._service, settings), cursor, deadline=until, redact=self.redact)
        self.end: End | None = None
        """Why it ended; ``None`` while it continues, or if it was stopped."""
        self.stall = ""
        """What is known of a job that has stalled."""
        self.job: Mapping[str, Any] | None = None
        """The job's details as last received."""
        self.error: RayAgentError | None = None
        """Error of the last request for the status; ``None`` if it succeeded."""
        self.log_error: RayAgentError | None = None
        """Error of the last attempt to read the whole log; ``None`` if it succeeded."""
        self.messages = 0
        """Number of messages received from streams, including replayed ones."""
        self.received_at = 0.0
        """When text of the log was last received, on the clock."""
        self._status_items: list[Item] = []
        self._outage = Outage(job_id)
        self._asked_at = clock()
        """When the last request for the status was sent, on the clock."""
        self._secrets_learned_from: object = None

    @property
    def cursor(self) -> Cursor:
        """The position up to which the log was forwarded."""
        return self.tail.cursor

    @property
    def log_is_whole(self) -> bool:
        """Whether the job has ended and its log was read to its end."""
        return self.tail.log_is_whole

    @property
    def text_at(self) -> float:
        """When text of the log was last received that was not received before, on the clock; 0: never."""
        return self.tail.text_at

    @property
    def log_is_readable(self) -> bool:
        """Whether the last request for the status, and the last one for the log, succeeded."""
        return self.error is None and (self.log_error is None or self._stream is not None)

    def give_up(self, why: str) -> None:
        """End the following of a job that has stalled.

        :param why: what is known of it, safe to show.
        """
        if self.end is None:
            self.end, self.stall = End.STALLED, why

    def renew_stream(self) -> None:
        """Replace an open stream, whose connection may be lost without a sign."""
        self.tail.renew_stream(self.clock())

    @property
    def has_failed(self) -> bool:
        """Whether it has ended without a SUCCEEDED job."""
        if self.end in (None, End.CHECKED_ONCE) or self.job is None:
            return False
        return jobs.known_status(self.job) is not jobs.JobStatus.SUCCEEDED

    @property
    def has_answered(self) -> bool:
        """Whether the service has answered a request for the job's status."""
        return self.tail.status.has_answered

    def expect_end(self) -> None:
        """Get the job's status soon, since the job has written what it writes last."""
        self.tail.status.end_expected(self.clock())

    def items(self) -> AsyncGenerator[list[Item], None]:
        """Yield lists of items, which may be empty, until the end. Closing the iterator closes all connections."""
        return self._items()

    async def _items(self) -> AsyncGenerator[list[Item], None]:
        try:
            while self.end is None and not self._is_stopped():
                yield await self._step()
        finally:
            await self._close()

    def _is_stopped(self) -> bool:
        """Return whether to stop soon."""
        return False

    async def _step(self) -> list[Item]:
        """Execute the next command of the tail; return the items that came meanwhile."""
        command = self.tail.next(self.clock())
        match command:
            case commands.GetStatus():
                await self._get_status()
            case commands.OpenStream(source):
                await self._open_stream(source)
            case commands.ReadStream(seconds):
                await self._read(seconds)
            case commands.CloseStream():
                await self._close_stream()
            case commands.OpenWholeLog(lines):
                await self._open_whole_log(lines)
            case commands.ReadWholeLog():
                await self._read_whole_log()
            case commands.CloseWholeLog():
                await self._close_whole_log()
            case commands.Wait(seconds):
                await self._wait(seconds)
            case commands.Finish(end):
                self.end = end
        items = [*self._status_items, *self.tail.take(), *self._final_items()]
        self._status_items.clear()
        return items

    def _final_items(self) -> list[Item]:
        """Return the status with which the job has ended, which comes after its last lines."""
        return [JobStatusChanged(self.job)] if self.end is End.JOB_ENDED and self.job is not None else []

    async def _close(self) -> None:
        """Close all connections."""
        try:
            await self._close_stream()
        finally:
            await self._close_whole_log()

    async def _wait(self, seconds: float) -> None:
        """Wait for up to ``seconds``."""
        raise NotImplementedError

    async def _get_status(self) -> None:
        self._asked_at = self.clock()
        try:
            # One try: while a request is repeated here, no log is read. The tail has pauses of its own.
            job = await self._client.ask(self._service.get_job(self.job_id), tries=1)
        except RayAgentError as error:
            self.on_status_failed(error)
        else:
            self.on_status(job)

    async def _open_stream(self, source: StreamSource) -> None:
        # Here, since triggers import this module, and must not load a transport library.
        from airflow_provider_rayagent.transport.live_logs import open_stream

        streams = self._service.streams
        try:
            if streams is None:
                raise RayAgentUnsupportedError(f"{self._service.label} has no live log streams.")
            opening = OpenLiveLog(source, streams.open(self.job_id, source), streams.decode_event)
            self._stream = await open_stream(self._client, opening)
        except RayAgentError:
            # The error is not kept: while no stream opens, the tail reads the whole log.
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    async def _read(self, seconds: float) -> None:
        """Read the stream for up to ``seconds``."""
        if self._stream is None:
            return
        try:
            events, alive = await self._stream.read(seconds)
        except StreamEndedError as ended:
            await self._close_stream()
            self.tail.stream_ended(self.clock(), too_long=ended.too_long)
            return
        if events:
            self.messages += len(events)
            self.received_at = self.clock()
            self.tail.stream_received(self.received_at, events)
        else:
            self.tail.stream_idle(self.clock(), alive=alive)

    async def _close_stream(self) -> None:
        # Cleared first, so that _close() does not close it again if this is cancelled.
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def _open_whole_log(self, lines: int | None) -> None:
        try:
            location = self._service.locate_log(self.job_id, self.job, lines, self._learn_secrets)
            call = await self._client.ask(location, tries=1)
            if call is not None:
                self._whole = await WholeLog.open(self._client, call)
        except RayAgentError as error:
            self.on_whole_log_failed(error)
            return
        self.tail.whole_log_opened(self.clock())
        # There is no log yet, which is like an empty one.
        if call is None:
            self.log_error = None
            self.tail.whole_log_ended(self.clock())

    async def _read_whole_log(self) -> None:
        log = self._whole
        if log is None:
            return
        try:
            text = await log.read()
        except RayAgentError as error:
            await self._close_whole_log()
            self.on_whole_log_failed(error)
            return
        # To the tail, a log that has ended is closed; the next one would replace this one in ``_whole``.
        if text is None:
            await self._close_whole_log()
            self.log_error = None
            self.tail.whole_log_ended(self.clock(), delimited=log.is_delimited)
        else:
            self.received_at = self.clock()
            self.tail.whole_log_received(self.received_at, text)

    async def _close_whole_log(self) -> None:
        log, self._whole = self._whole, None
        if log is not None:
            await log.aclose()

    def on_whole_log_failed(self, error: RayAgentError) -> None:
        """Process a failure to open or read the whole log."""
        self.log_error = error
        unreadable = is_log_unreadable(error)
        permanent = unreadable and is_permanent(error)
        self.tail.whole_log_failed(self.clock(), error.detail, transient=not unreadable, permanent=permanent)

    def on_status(self, job: Mapping[str, Any]) -> None:
        """Process the job's details, as received."""
        status = job.get("status")
        if not isinstance(status, str):
            self.on_status_failed(RayAgentResponseError(f"The details of job {self.job_id} have no status."))
            return
        self.error = None
        self._status_items += self._outage.ended()
        self._learn_secrets(job)
        terminal = jobs.has_ended(job)
        if not terminal and (self.job is None or self.job.get("status") != status):
            self._status_items.append(JobStatusChanged(job))
        self.job = job
        ended_ago = self._seconds_since_end(job) if terminal else 0.0
        self.tail.status_received(self.clock(), status, terminal=terminal, ended_ago=ended_ago)

    def _learn_secrets(self, job: Mapping[str, Any]) -> None:
        # From every response, since another job can take the id of one that was deleted.
        source = (job.get("runtime_env"), job.get("metadata"))
        if source != self._secrets_learned_from:
            self.redact.add(secrets_of(job))
            self._secrets_learned_from = source

    def _seconds_since_end(self, job: Mapping[str, Any]) -> float:
        """Return how long ago the job ended, at least."""
        end = jobs.ended_at(job)
        seconds = None if end is None else self._service_clock.seconds_since(end)
        return max(seconds or 0.0, 0.0)

    def on_status_failed(self, error: RayAgentError) -> None:
        """Process a failure to get the job's details."""
        self.error = error
        status, now = self.tail.status, self.clock()
        if isinstance(error, RayAgentNotFoundError):
            self._status_items += self._outage.ended()
            status.missing(now)
            return
        absent = self._may_come_and_go and isinstance(error, RayAgentAbsentError)
        until = status.failed(now, permanent=is_permanent(error), absent=absent)
        self._status_items += self._outage.failed(
            self._asked_at, now, error.code, error.detail, until=until, time=time.time()
        )
