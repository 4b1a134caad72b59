"""Poll a job's status, and decide when to give up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail import draining
from airflow_provider_rayagent.tail.backoff import Backoff
from airflow_provider_rayagent.tail.early_checks import EarlyChecks
from airflow_provider_rayagent.tail.end import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.tail.commands import TailSettings

MIN_GAP_SECONDS = 0.5
"""Minimum interval between two requests."""
MAX_GAP_SECONDS = 30.0
"""Maximum interval between two requests while they fail, unless the poll interval is longer."""
PENDING = "PENDING"
"""Ray's status of a job that has not started."""


class StatusPolling:
    """The polling of one job's status.

    :param deadline: when to give up, on the driver's clock, after one last request.
    """

    def __init__(self, settings: TailSettings, deadline: float | None, jitter: Callable[[], float]) -> None:
        self._settings = settings
        self._deadline = deadline
        self._backoff = Backoff(settings.poll_interval, max(MAX_GAP_SECONDS, settings.poll_interval), jitter)
        self._early = EarlyChecks(settings.poll_interval)
        self._requested_at = self._active_at = float("-inf")
        self._missing_since: float | None = None
        self._failing_since: float | None = None
        self._absent_since: float | None = None
        self._start_by: float | None = None
        self._final_request_made = False
        self.has_answered = settings.has_answered
        """Whether the service has answered, here or to an earlier tail."""
        self._poll_due = float("-inf")
        self.status: str | None = None
        self.ended_at: float | None = None
        """When a terminal status was received."""
        self.ended_by = float("inf")
        """The latest time at which the job may have ended."""
        self.give_up_reason: End | None = None
        """Why polling ended before the job did; ``None`` if it did not."""

    @property
    def due(self) -> float:
        """When the next request is due."""
        return min(self._poll_due, max(self._early.due, self._requested_at + MIN_GAP_SECONDS))

    @property
    def log_settles_at(self) -> float:
        """When nothing more is written to the log of a job that has ended."""
        return self.ended_by + draining.SETTLE_SECONDS

    @property
    def log_is_read_until(self) -> float:
        """When to stop reading the log of a job that has ended, though it still arrives."""
        if self._deadline is None or self.ended_at is None:
            return float("inf")
        return max(self._deadline, self.ended_at + draining.FAILING_SECONDS)

    def has_ended_with(self, completed_at: float | None) -> bool:
        """Whether the job was found to have ended as soon as its stream had said that the log is complete.

        :param completed_at: when the stream said so; ``None``: it did not.
        """
        # A job that was active afterwards may have written more: the stream was wrong.
        return (
            completed_at is not None
            and self.ended_at is not None
            and self._active_at <= completed_at
            and self.ended_at < completed_at + draining.SETTLE_SECONDS
        )

    def is_due(self, now: float) -> bool:
        """Whether to send a request now: the next one is due, or the last one after the deadline."""
        if self.ended_at is not None or self.give_up_reason is not None:
            return False
        if self._deadline is not None and now >= self._deadline and not self._final_request_made:
            self._final_request_made = True
            return True
        return now >= self.due

    def next_due(self) -> float:
        """Return when :meth:`is_due` becomes true."""
        return self.due if self._deadline is None or self._final_request_made else min(self.due, self._deadline)

    def expedite(self, now: float) -> None:
        """Schedule a request as soon as the minimum interval permits, since the job may have ended."""
        # Otherwise a stream that ends again and again would bypass the pauses between failed requests.
        if not self._backoff.failures:
            self._poll_due = min(self._poll_due, max(now, self._requested_at + MIN_GAP_SECONDS))

    def text_received(self, now: float, check_at: float | None = None) -> None:
        """Note new log text; see :meth:`EarlyChecks.text_received`."""
        if not self._backoff.failures:
            self._early.text_received(now, check_at)

    def end_expected(self, now: float) -> None:
        """Note that the job has written what it writes last; see :meth:`EarlyChecks.end_expected`."""
        if not self._backoff.failures:
            self._early.end_expected(now)

    @property
    def is_failing(self) -> bool:
        """Whether the job is unknown, or more than one request in a row has failed."""
        return self._backoff.failures > 1 or self._missing_since is not None

    def received(self, now: float, status: str, *, terminal: bool, ended_ago: float = 0.0) -> bool:
        """Process a status. Return whether it is terminal or has changed.

        :param ended_ago: how long ago the job ended, at least.
        """
        changed = terminal or status != self.status
        self.status = status
        self.has_answered = True
        self._missing_since = self._failing_since = self._absent_since = None
        self._backoff.reset()
        if terminal:
            self.ended_at = now
            # Clocks may differ, but the job has not ended before it was last seen active.
            self.ended_by = max(now - ended_ago, self._active_at)
        else:
            self._active_at = now
            self._early.requested(now, self._poll_due - now)
        limit = self._start_limit(now) if status == PENDING else None
        if limit is not None and now >= limit:
            self.give_up_reason = End.NOT_STARTED
        due = now + self._settings.poll_interval
        self._schedule(now, due if limit is None else min(due, limit))
        return changed

    def missing(self, now: float) -> None:
        """Process a response that the job is unknown to the agent."""
        self._early.cancel()
        # The service answers, so that it is reachable.
        self._failing_since = self._absent_since = None
        self._backoff.reset()
        if self._missing_since is None:
            self._missing_since = now
        limit, end = self._start_limit(now) if self.status is None else None, End.NOT_STARTED
        if limit is None:
            limit, end = self._missing_since + self._settings.missing_timeout, End.JOB_MISSING
        if now >= limit:
            self.give_up_reason = end
        self._schedule(now, min(now + self._settings.poll_interval, limit))

    def failed(self, now: float, *, permanent: bool, absent: bool = False) -> float | None:
        """Process a failed request. Return when polling ends if all further ones fail, too; ``None``: it has ended.

        :param permanent: whether a retry cannot succeed (a rejected token); if so, a failed first request is the last.
        :param absent: whether it has failed since the cluster, which may come and go, is not there.
        """
        self._early.cancel()
        if self._failing_since is None:
            self._failing_since = now
        limit, end = self._failing_since + self._settings.unreachable_timeout, End.AGENT_UNREACHABLE
        if not absent or not self.has_answered:
            # A cluster that was never there may still come. And what is said by a resolver that fails in between, or
            # by a host that does not answer, is not that the cluster is gone.
            self._absent_since = None
        else:
            self._absent_since = now if self._absent_since is None else self._absent_since
            # As long as for a job: the head refuses connections while it restarts, and a name without ready pods is
            # unknown.
            gone_at = self._absent_since + self._settings.missing_timeout
            if gone_at <= limit:
                limit, end = gone_at, End.CLUSTER_GONE
        if now >= limit or (permanent and not self.has_answered):
            self.give_up_reason = end
        self._backoff.record_failure(now)
        self._schedule(now, min(self._backoff.due, limit))
        if self.give_up_reason is not None:
            return None
        return limit if self._deadline is None else min(limit, self._deadline)

    def _start_limit(self, now: float) -> float | None:
        """Return when the job must have started, or ``None`` if there is no limit."""
        if self._start_by is None and self._settings.start_timeout is not None:
            self._start_by = now + self._settings.start_timeout
        return self._start_by

    def _schedule(self, now: float, due: float) -> None:
        self._requested_at = now
        self._poll_due = max(due, now + MIN_GAP_SECONDS)
        # What the last request has found takes precedence over the deadline.
        if self._final_request_made and self.ended_at is None and self.give_up_reason is None:
            self.give_up_reason = End.TIMED_OUT
