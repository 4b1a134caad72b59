"""Count what happens while a job is followed. Nothing is computed while Airflow's metrics are off."""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.metrics import names, stats
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import JobStatusChanged, LogLines, LogUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.tail_driver import Follower

SEND_SECONDS = 10.0
"""Interval at which the lag and the number of jobs are sent while a job is followed."""


@dataclass(frozen=True)
class Owner:
    """Whose jobs are counted.

    :param conn_id: the Airflow connection.
    :param team: the team of the task, if Airflow has teams.
    """

    conn_id: str
    team: str | None = None

    def tags(self, **more: str) -> dict[str, str]:
        """Return the tags for both, and ``more``."""
        team = {names.TEAM: stats.tag_value(self.team)} if self.team else {}
        return {"conn_id": stats.tag_value(self.conn_id), **team, **more}


class FollowedJobs:
    """The number of jobs that this process follows, by their owners."""

    def __init__(self) -> None:
        self._counts: Counter[Owner] = Counter()
        self._sent_at: dict[Owner, float] = {}

    def add(self, owner: Owner, change: int) -> None:
        """Add ``change`` jobs, and send the new number."""
        self._counts[owner] += change
        self.send(owner)

    def send(self, owner: Owner, *, interval: float = 0.0) -> None:
        """Send the number of jobs, unless it was sent within ``interval`` seconds."""
        now = time.monotonic()
        if now - self._sent_at.get(owner, float("-inf")) >= interval:
            self._sent_at[owner] = now
            tags = owner.tags(hostname=stats.tag_value(socket.gethostname()))
            stats.gauge(names.JOBS_FOLLOWED, self._counts[owner], tags)


followed_jobs = FollowedJobs()
"""The jobs that the triggers of this process follow."""


class JobMetrics:
    """The metrics of one task's job.

    :param conn_id: the Airflow connection.
    :param mode: how the task follows the job.
    :param team: the team of the task, if Airflow has teams.
    :param among: the jobs that this process follows, in a triggerer.
    """

    def __init__(
        self, conn_id: str, mode: names.Mode, *, team: str | None = None, among: FollowedJobs | None = None
    ) -> None:
        self._is_on = stats.is_on()
        self._owner = Owner(conn_id, team)
        self._among = among
        self._tags = self._owner.tags(mode=mode) if self._is_on else {}
        self._sent_at = 0.0
        self._lag: float | None = None
        self._is_unreadable = self._was_active = False

    @contextmanager
    def following(self, follower: Follower) -> Iterator[None]:
        """Measure the following of the job, which ends with this block."""
        if not self._is_on:
            yield
            return
        self._sent_at = time.monotonic()
        if self._among is not None:
            self._among.add(self._owner, 1)
        try:
            yield
        finally:
            if self._among is not None:
                self._among.add(self._owner, -1)
            self._send_lag(time.monotonic())
            # The end of a job that had ended before says nothing about how soon an end is noticed.
            if follower.end is End.JOB_ENDED and follower.job is not None and self._was_active:
                delay = seconds_since_end(follower.job, time.time())
                if delay is not None:
                    stats.timing(names.END_DELAY, delay, self._tags)

    def forwarded(self, follower: Follower, items: Iterable[Item]) -> None:
        """Count ``items``, which were written to the task log just now."""
        if not self._is_on:
            return
        now = time.monotonic()
        for item in items:
            match item:
                case LogLines():
                    self._lag = max(self._lag or 0.0, now - follower.received_at)
                case LogUnreadable() if not self._is_unreadable:
                    self._is_unreadable = True
                    stats.incr(names.UNREADABLE_LOGS, 1, self._tags)
                case JobStatusChanged(details) if not jobs.has_ended(details):
                    self._was_active = True
        if now - self._sent_at >= SEND_SECONDS:
            self._send_lag(now)
            if self._among is not None:
                self._among.send(self._owner, interval=SEND_SECONDS)

    def ended(self, end: End | None, job: Mapping[str, Any] | None = None) -> None:
        """Count the end of the task's following.

        :param end: why it ended; ``None`` after another error, or if the task is being killed.
        :param job: the job's details.
        """
        if self._is_on:
            stats.incr(names.JOB_ENDS, 1, {**self._tags, "status": status_of(end, job)})

    def _send_lag(self, now: float) -> None:
        if self._lag is not None:
            stats.timing(names.LINE_LAG, self._lag, self._tags)
        self._sent_at, self._lag = now, None


def status_of(end: End | None, job: Mapping[str, Any] | None) -> str:
    """Return the value of the tag ``status``."""
    if end is None:
        return names.ERROR
    if end is not End.JOB_ENDED:
        return end.name
    status = jobs.known_status(job or {})
    return names.UNKNOWN_STATUS if status is None else status.value


def seconds_since_end(job: Mapping[str, Any], now: float) -> float | None:
    """Return the seconds since a job's end, ``None`` if that is unknown.

    At least 0, since the clock of the job's node may be ahead.

    :param now: seconds since the epoch.
    """
    end = jobs.ended_at(job)
    return None if end is None else max(now - end, 0.0)
