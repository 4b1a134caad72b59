"""Jittered exponential backoff, and the pace of polling the whole log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_READ_INTERVAL = 1.0
MAX_READ_INTERVAL = 5.0


def interval_between_reads(poll_interval: float) -> float:
    """Return the interval at which the whole log is read where the service has none of its own, in seconds.

    :param poll_interval: interval at which the job's status is polled.
    """
    return min(max(poll_interval, MIN_READ_INTERVAL), MAX_READ_INTERVAL)


def pause_between_reads(interval: float, seconds: float) -> float:
    """Return the seconds to wait between two reads of the whole log while no stream is available.

    :param interval: the shortest pause.
    :param seconds: duration of the last read; the pause is at least ten times as long, to limit the load.
    """
    return max(interval, 10 * seconds)


def pause_after(failures: int, first: float, longest: float, jitter: float) -> float:
    """Return the seconds to wait after consecutive failures: doubled each time, and jittered.

    :param failures: number of failures, at least 1.
    :param first: nominal seconds after the first failure.
    :param longest: maximum of the nominal seconds.
    :param jitter: a number in [0, 1); the pause is 0.5 to 1 times its nominal length.
    """
    # Without the limit of 30, 2.0**1024 raises OverflowError. The jitter spreads the requests of many tasks.
    return min(first * 2.0 ** min(failures - 1, 30), longest) * (0.5 + jitter / 2)


class Backoff:
    """When the next attempt is due: immediately, then after increasing pauses until a success resets them.

    :param first: nominal seconds after the first failure.
    :param longest: maximum of the nominal seconds.
    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0
        self.due = 0.0
        """When the next attempt is due, on the caller's clock."""

    def record_failure(self, now: float) -> None:
        """Count a failure, and postpone the next attempt."""
        self.failures += 1
        self.due = now + pause_after(self.failures, self._first, self._longest, self._jitter())

    def expedite(self, now: float) -> None:
        """Allow the next attempt at ``now``, without resetting the pauses."""
        self.due = min(self.due, now)

    def reset(self, now: float = 0.0) -> None:
        """Reset the pauses; the next attempt is due at ``now``."""
        self.failures = 0
        self.due = now
