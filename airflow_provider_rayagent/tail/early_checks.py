"""Requests for a job's status that are sent earlier than the poll interval, when the job may have ended.

Lines show that a job is active, so one that has just written is more likely to end soon than one that has been
silent for an hour. Ray's live log is 0.4 to 2 seconds late, so that the end often comes before the last lines.
"""

from __future__ import annotations

NEVER = float("inf")
QUIET_SECONDS = 1.1
"""Silence after lines that may be the end. Ray's log tail sends new lines once per second (``file_tail_iterator`` in
``ray/dashboard/modules/job/utils.py``), give or take a few hundredths of a second."""
AFTER_READING_SECONDS = 0.1
"""How long after the next reading of the whole log is due the status is requested, unless that brings more text."""
FIRST_PAUSE_SECONDS = 2.0
"""The pause until the next request if the job is still active; it doubles until it reaches the poll interval."""
WRITING_SHARE = 0.75
"""Part of the poll interval after which the status of a job that is writing is requested."""
MAX_BUDGET = 10.0
GAIN_PER_POLL = 1 / 3
"""What the budget gains per poll interval: at most a third more requests than without these."""


class EarlyChecks:
    """The requests for one job's status before the polled ones are due.

    A budget limits them. A request costs the part of the poll interval by which it is early.

    :param poll_interval: seconds between two polled requests.
    """

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self._budget = MAX_BUDGET
        self._requested_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._quiet_due = self._writing_due = NEVER

    @property
    def due(self) -> float:
        """When the next request is due."""
        return min(self._quiet_due, self._writing_due)

    def text_received(self, now: float, check_at: float | None = None) -> None:
        """Note new log text.

        :param check_at: when to request the status, unless more text arrives; default: after :data:`QUIET_SECONDS`.
        """
        self._pause = FIRST_PAUSE_SECONDS
        self._quiet_due = self._affordable(now, now + QUIET_SECONDS if check_at is None else check_at)
        self._writing_due = self._affordable(now, self._requested_at + WRITING_SHARE * self._poll_interval)

    def end_expected(self, now: float) -> None:
        """Schedule a request now, and the next one soon: the job has written what it writes last."""
        self._pause = QUIET_SECONDS
        self._quiet_due = self._affordable(now, now)

    def requested(self, now: float, early_by: float) -> None:
        """Note that the status was requested, and the job is active.

        :param early_by: seconds until the polled request would have been due.
        """
        self._budget = self._available(now) - max(early_by, 0.0) / self._poll_interval
        self._requested_at, self._writing_due = now, NEVER
        if self._quiet_due <= now:
            self._quiet_due = now + self._pause if self._pause < self._poll_interval else NEVER
            self._pause *= 2

    def cancel(self) -> None:
        """Schedule no request until text is received again."""
        self._quiet_due = self._writing_due = NEVER

    def _affordable(self, now: float, due: float) -> float:
        # The most that a request can cost is 1, if it is early by the whole poll interval.
        return due if self._available(now) >= 1 else NEVER

    def _available(self, now: float) -> float:
        gained = (now - self._requested_at) / self._poll_interval * GAIN_PER_POLL
        return min(self._budget + gained, MAX_BUDGET)
