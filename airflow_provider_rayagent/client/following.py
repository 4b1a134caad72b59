"""What the two drivers of a tail share: all but the I/O itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import RayAgentError, RayAgentNotFoundError, RayAgentResponseError
from airflow_provider_rayagent.client.log_answers import StreamEndedError
from airflow_provider_rayagent.client.transience import is_log_unreadable, is_permanent
from airflow_provider_rayagent.client.validation import JobId, Protocol, validate_protocol
from airflow_provider_rayagent.tail import commands as do
from airflow_provider_rayagent.tail.commands import Command, StreamSource, TailSettings
from airflow_provider_rayagent.tail.items import Item, JobSeen
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.end import End
    from airflow_provider_rayagent.text.redaction import Redactor

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


class Following:
    """One followed job. A driver carries out :meth:`step` by step; the attributes say how it ended.

    :param deadline: seconds from now after which to give up.
    :param clock: monotonic, in seconds.
    :param redact: knows the connection's secrets.
    """

    def __init__(
        self,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None,
        deadline: float | None,
        clock: Callable[[], float],
        redact: Redactor = NO_SECRETS,
    ) -> None:
        self.job_id = job_id
        self.clock = clock
        self.redact = redact
        until = None if deadline is None else clock() + deadline
        self.tail = Tail(settings, cursor, deadline=until, redact=redact)
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

    def step(self) -> Generator[Command, Any, None]:
        """Do what the tail commands next.

        What needs I/O is yielded. The driver sends back what a command gives, or throws the error that it raised:

        - ``AskStatus`` gives the job's details, or a :class:`RayAgentError`;
        - ``OpenStream`` and ``OpenWholeLog`` give nothing, or a :class:`RayAgentError`;
        - ``ReadStream`` gives events and whether the peer showed itself, or a :class:`StreamEndedError`;
        - ``ReadWholeLog`` gives text, ``None`` at its end, or a :class:`RayAgentError`;
        - ``CloseWholeLog`` gives whether the answer itself said where it ends;
        - ``CloseStream`` and ``Wait`` give nothing.
        """
        command = self.tail.next(self.clock())
        match command:
            case do.AskStatus():
                yield from self._ask_status(command)
            case do.OpenStream():
                yield from self._open_stream(command)
            case do.ReadStream():
                yield from self._read_stream(command)
            case do.OpenWholeLog():
                yield from self._open_whole_log(command)
            case do.ReadWholeLog():
                yield from self._read_whole_log(command)
            case do.Finish(end):
                self.end = end
            case _:
                yield command

    def _ask_status(self, command: Command) -> Generator[Command, Any, None]:
        try:
            job = yield command
        except RayAgentError as error:
            self.on_status_failed(error)
        else:
            self.on_status(job)

    def _open_stream(self, command: Command) -> Generator[Command, Any, None]:
        try:
            yield command
        except RayAgentError:
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    def _read_stream(self, command: Command) -> Generator[Command, Any, None]:
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

    def _open_whole_log(self, command: Command) -> Generator[Command, Any, None]:
        try:
            yield command
        except RayAgentError as error:
            self.on_whole_log_failed(error)
        else:
            self.tail.whole_log_opened(self.clock())

    def _read_whole_log(self, command: Command) -> Generator[Command, Any, None]:
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
            self.on_status_failed(RayAgentResponseError(f"The agent's answer for job {self.job_id} has no status."))
            return
        self.error = None
        if self.job is None or self.job.get("status") != status:
            self._news.append(JobSeen(job))
        self.job = job
        self.tail.status_received(self.clock(), status, terminal=jobs.has_ended(job))

    def on_status_failed(self, error: RayAgentError) -> None:
        """Take the failure to read the job's details."""
        self.error = error
        if isinstance(error, RayAgentNotFoundError):
            self.tail.status_missing(self.clock())
        else:
            self.tail.status_failed(self.clock(), permanent=is_permanent(error))
