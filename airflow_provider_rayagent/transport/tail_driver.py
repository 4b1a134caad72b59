"""Code that the two drivers of a tail share. No I/O."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.errors.transience import is_log_unreadable, is_permanent
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.services.validation import JobId, Protocol, validate_protocol
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import Command, StreamSource, TailSettings
from airflow_provider_rayagent.tail.items import Item, JobStatusChanged
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.transport.log_responses import StreamEndedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Steps
    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.end import End
    from airflow_provider_rayagent.tail.live_stream import StreamEnd

SOURCES: dict[Protocol, tuple[StreamSource, ...]] = {
    "auto": ("websocket", "http"),
    "websocket": ("websocket",),
    "http": ("http",),
}
"""The stream sources of a protocol, in order of preference."""
SLICE_SECONDS = 1.0
"""Maximum duration of one wait or read, so that a request to stop is noticed soon."""


def tail_settings(protocol: object, *, start_by: float | None = None, **settings: Any) -> TailSettings:
    """Return the settings of a tail.

    :param protocol: one of :data:`PROTOCOLS`.
    :param start_by: time (seconds since the epoch) by which the job must have started; ``None``: no limit.
    :param settings: other fields of :class:`TailSettings`.
    :raises RayAgentInputError: for an invalid protocol.
    """
    start_timeout = None if start_by is None else max(start_by - time.time(), 0.0)
    return TailSettings(sources=SOURCES[validate_protocol(protocol)], start_timeout=start_timeout, **settings)


@dataclass(frozen=True)
class OpenLog:
    """Send the request for the whole log, and read the head of its response."""

    call: Call


Step: TypeAlias = Command | Call | Pause | OpenLiveLog | OpenLog
"""What a driver carries out."""


def settings_for(service: Service, settings: TailSettings) -> TailSettings:
    """Return settings without the streams that the service does not have, and with its ways to read the log."""
    sources = service.streams.sources if service.streams else ()
    usable = tuple(source for source in settings.sources if source in sources)
    return replace(settings, sources=usable, log_interval=service.log_interval, last_lines=service.can_read_last_lines)


class Following:
    """One followed job. A driver executes :meth:`step` repeatedly; the attributes contain the outcome.

    :param config: the connection, with the service and the secrets.
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
        self.base_url = config.base_url
        """URL of the service."""
        self.clock = clock
        self.redact = Redactor(base=config.redact)
        """Redacts the secrets of the connection, and those of the job once its details are known."""
        self._service = config.service
        self._service_clock = config.clock
        until = None if deadline is None else clock() + deadline
        self.tail = Tail(settings_for(self._service, settings), cursor, deadline=until, redact=self.redact)
        self.end: End | None = None
        """Why it ended; ``None`` while it continues, or if it was stopped."""
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
        self.reconnects: Counter[StreamEnd] = Counter()
        """Number of attempts to open a stream again, by why the last one ended or was not opened."""
        self._stream_was_requested = False
        self._status_changes: list[Item] = []
        self._secrets_learned_from: object = None

    @property
    def cursor(self) -> Cursor:
        """The position up to which the log was forwarded."""
        return self.tail.cursor

    @property
    def log_is_whole(self) -> bool:
        """Whether the job has ended and its log was read to its end."""
        return self.tail.log_is_whole

    def expect_end(self) -> None:
        """Get the job's status soon, since the job has written what it writes last."""
        self.tail.status.end_expected(self.clock())

    def take(self) -> list[Item]:
        """Return the items since the last call."""
        items = [*self._status_changes, *self.tail.take()]
        self._status_changes.clear()
        return items

    def step(self) -> Generator[Step, Any, None]:
        """Execute the next command of the tail.

        Commands that need I/O are yielded. The driver sends their result back, or throws the error that they raised:

        - a ``Call``, sent once, returns its result, or raises a :class:`RayAgentError`;
        - ``OpenLiveLog`` and ``OpenLog`` return nothing, or raise a :class:`RayAgentError`;
        - ``ReadStream`` returns events and whether the peer is alive, or raises a :class:`StreamEndedError`;
        - ``ReadWholeLog`` returns text, or ``None`` at its end, or raises a :class:`RayAgentError`;
        - ``CloseWholeLog`` returns whether the response declares its end;
        - ``CloseStream``, ``Wait`` and ``Pause`` return nothing.
        """
        command = self.tail.next(self.clock())
        match command:
            case commands.GetStatus():
                yield from self._get_status()
            case commands.OpenStream():
                yield from self._open_stream(command.source)
            case commands.ReadStream():
                yield from self._read_stream(command)
            case commands.OpenWholeLog(lines):
                yield from self._open_whole_log(lines)
            case commands.ReadWholeLog():
                yield from self._read_whole_log(command)
            case commands.Finish(end):
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
        if self._stream_was_requested:
            self.reconnects[self.tail.stream.end] += 1
        self._stream_was_requested = True
        try:
            if streams is None:
                raise RayAgentUnsupportedError(f"{self._service.label} has no live log streams.")
            yield OpenLiveLog(source, streams.open(self.job_id, source), streams.decode_event)
        except RayAgentError:
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    def _read_stream(self, command: Command) -> Generator[Step, Any, None]:
        try:
            events, alive = yield command
        except StreamEndedError as ended:
            yield commands.CloseStream()
            self.tail.stream_ended(self.clock(), too_long=ended.too_long)
            return
        if events:
            self.messages += len(events)
            self.received_at = self.clock()
            self.tail.stream_received(self.received_at, events)
        else:
            self.tail.stream_idle(self.clock(), alive=alive)

    def _open_whole_log(self, lines: int | None) -> Generator[Step, Any, None]:
        try:
            call = yield from self._service.locate_log(self.job_id, self.job, lines, self._learn_secrets)
            if call is not None:
                yield OpenLog(call)
        except RayAgentError as error:
            self.on_whole_log_failed(error)
            return
        self.tail.whole_log_opened(self.clock())
        if call is None:
            self.log_error = None
            self.tail.whole_log_ended(self.clock())

    def _read_whole_log(self, command: Command) -> Generator[Step, Any, None]:
        try:
            text = yield command
        except RayAgentError as error:
            yield commands.CloseWholeLog()
            self.on_whole_log_failed(error)
            return
        if text is None:
            delimited = yield commands.CloseWholeLog()
            self.log_error = None
            self.tail.whole_log_ended(self.clock(), delimited=delimited)
        else:
            self.received_at = self.clock()
            self.tail.whole_log_received(self.received_at, text)

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
        self._learn_secrets(job)
        if self.job is None or self.job.get("status") != status:
            self._status_changes.append(JobStatusChanged(job))
        self.job = job
        terminal = jobs.has_ended(job)
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
        if isinstance(error, RayAgentNotFoundError):
            self.tail.status.missing(self.clock())
        else:
            self.tail.status.failed(self.clock(), permanent=is_permanent(error))
