"""What the two drivers of a tail share: all but the I/O itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.call import Call, Pause
from airflow_provider_rayagent.client.errors import (
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.client.log_answers import StreamEndedError
from airflow_provider_rayagent.client.service import OpenLiveLog
from airflow_provider_rayagent.client.transience import is_log_unreadable, is_permanent
from airflow_provider_rayagent.client.validation import JobId, Protocol, validate_protocol
from airflow_provider_rayagent.tail import commands as do
from airflow_provider_rayagent.tail.commands import Command, StreamSource, TailSettings
from airflow_provider_rayagent.tail.items import Item, JobStatusChanged
from airflow_provider_rayagent.tail.machine import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from airflow_provider_rayagent.client.call import Steps
    from airflow_provider_rayagent.client.config import AgentConfig
    from airflow_provider_rayagent.client.service import Service
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.end import End

SOURCES: dict[Protocol, tuple[StreamSource, ...]] = {
    "auto": ("websocket", "http"),
    "websocket": ("websocket",),
    "http": ("http",),
}
"""The log streams of a protocol, the preferred one first."""
SLICE_SECONDS = 1.0
"""A wait or read is never longer at a stretch, so that a request to stop is seen soon."""


def tail_settings(protocol: object, *, start_by: float | None = None, **settings: Any) -> TailSettings:
    """Return how a job is followed.

    :param protocol: one of :data:`PROTOCOLS`.
    :param start_by: the moment (seconds since the epoch) by which the job must have started, if there is one.
    :param settings: the other fields of :class:`TailSettings`.
    :raises RayAgentInputError: for a bad protocol.
    """
    start_timeout = None if start_by is None else max(start_by - time.time(), 0.0)
    return TailSettings(sources=SOURCES[validate_protocol(protocol)], start_timeout=start_timeout, **settings)


@dataclass(frozen=True)
class OpenLog:
    """Send the request for the whole log, and read the head of its answer."""

    call: Call


Step: TypeAlias = Command | Call | Pause | OpenLiveLog | OpenLog
"""What a driver carries out."""


def settings_for(service: Service, settings: TailSettings) -> TailSettings:
    """Return settings without the streams that the service does not have, and with its pause between readings."""
    sources = service.streams.sources if service.streams else ()
    usable = tuple(source for source in settings.sources if source in sources)
    return replace(settings, sources=usable, log_interval=service.log_interval)


class Following:
    """One followed job. A driver carries out :meth:`step` by step; the attributes say how it ended.

    :param config: says which service it is, and has the secrets that no message may show.
    :param deadline: seconds from now after which to give up.
    :param clock: monotonic, in seconds.
    """

    def __init__(
        self,
        config: AgentConfig,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None,
        deadline: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.job_id = job_id
        self.clock = clock
        self.redact = config.redact
        self._service = config.service
        until = None if deadline is None else clock() + deadline
        self.tail = Tail(settings_for(self._service, settings), cursor, deadline=until, redact=self.redact)
        self.end: End | None = None
        """Why it ended; ``None`` while it goes on, or if it was stopped."""
        self.job: Mapping[str, Any] | None = None
        """The job's details as last seen."""
        self.error: RayAgentError | None = None
        """The last failure to ask for the status, ``None`` after a success."""
        self.messages = 0
        """Messages that the streams brought, replayed ones included."""
        self._news: list[Item] = []

    @property
    def cursor(self) -> Cursor:
        """What was forwarded so far."""
        return self.tail.cursor

    @property
    def log_is_whole(self) -> bool:
        """Whether, at the job's end, its log was read to its end."""
        return self.tail.log_is_whole

    def take(self) -> list[Item]:
        """Return the items since the last call."""
        items = [*self._news, *self.tail.take()]
        self._news.clear()
        return items

    def step(self) -> Generator[Step, Any, None]:
        """Do what the tail commands next.

        What needs I/O is yielded. The driver sends back what a command gives, or throws the error that it raised:

        - a ``Call``, sent once, gives its result, or a :class:`RayAgentError`;
        - ``OpenLiveLog`` and ``OpenLog`` give nothing, or a :class:`RayAgentError`;
        - ``ReadStream`` gives events and whether the peer showed itself, or a :class:`StreamEndedError`;
        - ``ReadWholeLog`` gives text, ``None`` at its end, or a :class:`RayAgentError`;
        - ``CloseWholeLog`` gives whether the answer itself said where it ends;
        - ``CloseStream``, ``Wait`` and ``Pause`` give nothing.
        """
        command = self.tail.next(self.clock())
        match command:
            case do.GetStatus():
                yield from self._get_status()
            case do.OpenStream():
                yield from self._open_stream(command.source)
            case do.ReadStream():
                yield from self._read_stream(command)
            case do.OpenWholeLog():
                yield from self._open_whole_log()
            case do.ReadWholeLog():
                yield from self._read_whole_log(command)
            case do.Finish(end):
                self.end = end
            case _:
                yield command

    def _get_status(self) -> Steps:
        try:
            job = yield self._service.get_job(self.job_id)
        except RayAgentError as error:
            self.on_status_failed(error)
        else:
            self.on_status(job)

    def _open_stream(self, source: StreamSource) -> Generator[Step, Any, None]:
        streams = self._service.streams
        try:
            if streams is None:
                raise RayAgentUnsupportedError(f"{self._service.noun} has no live log streams.")
            yield OpenLiveLog(source, streams.open(self.job_id, source), streams.decode_event)
        except RayAgentError:
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    def _read_stream(self, command: Command) -> Generator[Step, Any, None]:
        try:
            events, alive = yield command
        except StreamEndedError as ended:
            yield do.CloseStream()
            self.tail.stream_ended(self.clock(), too_long=ended.too_long)
            return
        if events:
            self.messages += len(events)
            self.tail.stream_received(self.clock(), events)
        else:
            self.tail.stream_idle(self.clock(), alive=alive)

    def _open_whole_log(self) -> Generator[Step, Any, None]:
        try:
            call = yield from self._service.locate_log(self.job_id, self.job)
            if call is not None:
                yield OpenLog(call)
        except RayAgentError as error:
            self.on_whole_log_failed(error)
            return
        self.tail.whole_log_opened(self.clock())
        if call is None:
            self.tail.whole_log_ended(self.clock())

    def _read_whole_log(self, command: Command) -> Generator[Step, Any, None]:
        try:
            text = yield command
        except RayAgentError as error:
            yield do.CloseWholeLog()
            self.on_whole_log_failed(error)
            return
        if text is None:
            delimited = yield do.CloseWholeLog()
            self.tail.whole_log_ended(self.clock(), delimited=delimited)
        else:
            self.tail.whole_log_received(self.clock(), text)

    def on_whole_log_failed(self, error: RayAgentError) -> None:
        """Take the failure to open or read the whole log."""
        self.tail.whole_log_failed(self.clock(), error.detail, transient=not is_log_unreadable(error))

    def on_status(self, job: Mapping[str, Any]) -> None:
        """Take the job's details as the service answered them."""
        status = job.get("status")
        if not isinstance(status, str):
            self.on_status_failed(RayAgentResponseError(f"The details of job {self.job_id} have no status."))
            return
        self.error = None
        if self.job is None or self.job.get("status") != status:
            self._news.append(JobStatusChanged(job))
        self.job = job
        self.tail.status_received(self.clock(), status, terminal=jobs.has_ended(job))

    def on_status_failed(self, error: RayAgentError) -> None:
        """Take the failure to read the job's details."""
        self.error = error
        if isinstance(error, RayAgentNotFoundError):
            self.tail.status_missing(self.clock())
        else:
            self.tail.status_failed(self.clock(), permanent=is_permanent(error))
