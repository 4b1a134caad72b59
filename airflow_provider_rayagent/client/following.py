"""What every driver of a tail shares: the job as last seen, and what the agent's answers mean. No I/O."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import RayAgentError, RayAgentNotFoundError, RayAgentResponseError
from airflow_provider_rayagent.client.transience import is_log_unreadable, is_permanent
from airflow_provider_rayagent.client.validation import JobId, Protocol, validate_protocol
from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
from airflow_provider_rayagent.tail.items import Item, JobSeen
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.stream.events import Event
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
    """One followed job. A driver does what :attr:`tail` commands; the attributes say how it ended.

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
        """Return what there is to tell since the last call."""
        items = [*self._news, *self.tail.take()]
        self._news.clear()
        return items

    def on_status(self, job: Mapping[str, Any]) -> None:
        """Take the agent's answer to the question for the job."""
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
        """Take the failure of that question."""
        self.error = error
        if isinstance(error, RayAgentNotFoundError):
            self.tail.status_missing(self.clock())
        else:
            self.tail.status_failed(self.clock(), permanent=is_permanent(error))

    def on_events(self, events: list[Event], *, alive: bool) -> None:
        """Take what a read of the stream brought."""
        if events:
            self.messages += len(events)
            self.tail.stream_received(self.clock(), events)
        else:
            self.tail.stream_idle(self.clock(), alive=alive)

    def on_whole_log_failed(self, error: RayAgentError) -> None:
        """Take the failure to open or read the whole log."""
        self.tail.whole_log_failed(self.clock(), error.detail, transient=not is_log_unreadable(error))
