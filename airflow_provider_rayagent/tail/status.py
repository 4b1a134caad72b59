"""When to ask for a job's status, and what the answers mean for the tail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.backoff import Backoff
from airflow_provider_rayagent.tail.end import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.tail.commands import TailSettings

MIN_GAP_SECONDS = 0.5
"""Between two questions, however much one is wanted."""
MAX_GAP_SECONDS = 30.0
"""Between two questions while they fail, unless the poll interval is longer."""
PENDING = "PENDING"
"""Ray's status of a job that has not started."""


class StatusPolling:
    """Poll one job's status.

    :param deadline: moment at which to give up, on the driver's clock, after one more look.
    """

    def __init__(self, settings: TailSettings, deadline: float | None, jitter: Callable[[], float]) -> None:
        self._settings = settings
        self._deadline = deadline
        self._trouble = Backoff(settings.poll_interval, max(MAX_GAP_SECONDS, settings.poll_interval), jitter)
        self._asked_at = float("-inf")
        self._missing_since: float | None = None
        self._failing_since: float | None = None
        self._start_by: float | None = None
        self._last_look = False
        self._answered = False
        self.due = float("-inf")
        """The moment of the next question."""
        self.status: str | None = None
        self.ended_at: float | None = None
        """The moment at which the job was seen to have ended."""
        self.given_up: End | None = None
        """Why the watch ended without the job's end."""

    def is_due(self, now: float) -> bool:
        """Whether to ask now; a passed deadline is one last reason."""
        if self.ended_at is not None or self.given_up is not None:
            return False
        if self._deadline is not None and now >= self._deadline and not self._last_look:
            self._last_look = True
            return True
        return now >= self.due

    def next_moment(self) -> float:
        """Return the moment at which :meth:`is_due` turns true."""
        return self.due if self._deadline is None or self._last_look else min(self.due, self._deadline)

    def hurry(self, now: float) -> None:
        """Ask as soon as the pace allows: something happened that may mean the job's end."""
        if not self._trouble.failures:
            self.due = min(self.due, max(now, self._asked_at + MIN_GAP_SECONDS))

    @property
    def in_trouble(self) -> bool:
        """Whether the last questions, and not only one of them, had no status for an answer."""
        return self._trouble.failures > 1 or self._missing_since is not None

    def received(self, now: float, status: str, *, terminal: bool) -> bool:
        """Take a status. Return whether it is news: another one than before, or the end."""
        news = terminal or status != self.status
        self.status = status
        self._answered = True
        self._missing_since = self._failing_since = None
        self._trouble.succeeded()
        if terminal:
            self.ended_at = now
        limit = self._start_limit(now) if status == PENDING else None
        if limit is not None and now >= limit:
            self.given_up = End.NOT_STARTED
        due = now + self._settings.poll_interval
        self._asked(now, due if limit is None else min(due, limit))
        return news

    def missing(self, now: float) -> None:
        """Take the answer that the agent does not know the job."""
        self._failing_since = None
        self._trouble.succeeded()
        if self._missing_since is None:
            self._missing_since = now
        limit, end = self._start_limit(now) if self.status is None else None, End.NOT_STARTED
        if limit is None:
            limit, end = self._missing_since + self._settings.missing_timeout, End.JOB_MISSING
        if now >= limit:
            self.given_up = end
        self._asked(now, min(now + self._settings.poll_interval, limit))

    def failed(self, now: float, *, permanent: bool) -> None:
        """Take the failure of a question.

        :param permanent: it can't be expected to pass (a refused token); then a first question is the last.
        """
        if self._failing_since is None:
            self._failing_since = now
        limit = self._failing_since + self._settings.unreachable_timeout
        if now >= limit or (permanent and not self._answered):
            self.given_up = End.AGENT_UNREACHABLE
        self._trouble.failed(now)
        self._asked(now, min(self._trouble.due, limit))

    def _start_limit(self, now: float) -> float | None:
        """Return the moment by which the job has to have started, ``None`` if there is none."""
        if self._start_by is None and self._settings.start_timeout is not None:
            self._start_by = now + self._settings.start_timeout
        return self._start_by

    def _asked(self, now: float, due: float) -> None:
        self._asked_at = now
        self.due = max(due, now + MIN_GAP_SECONDS)
        if self._last_look and self.ended_at is None and self.given_up is None:
            self.given_up = End.TIMED_OUT
