"""How often something is done: jittered exponential back-off, and the polling of the whole log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_POLL_SECONDS = 1.0
MAX_POLL_SECONDS = 5.0


def interval_between_readings(poll_interval: float) -> float:
    """Return the seconds between two readings of the whole log, given those between two requests for the status."""
    return min(max(poll_interval, MIN_POLL_SECONDS), MAX_POLL_SECONDS)


def pause_between_readings(interval: float, seconds: float) -> float:
    """Return the pause after a reading of the whole log while no stream can be had, in seconds.

    :param interval: the shortest pause.
    :param seconds: how long the reading took; the pause is ten times as long, so that polling stays a small load.
    """
    return max(interval, 10 * seconds)


def pause_after(failures: int, first: float, longest: float, jitter: float) -> float:
    """Return the seconds to wait after some failures in a row, at least one: doubled each time, and jittered.

    :param jitter: a number in [0, 1); a pause is 0.5 to 1 times its nominal length.
    """
    return min(first * 2.0 ** min(failures - 1, 30), longest) * (0.5 + jitter / 2)


class Backoff:
    """When the next try may be made: at once, then after ever longer pauses until a success resets it.

    :param first: seconds after the first failure.
    :param longest: seconds at the most.
    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0
        self.due = 0.0
        """The moment of the next try, on the caller's clock."""

    def failed(self, now: float) -> None:
        """Count a failure and put the next try off."""
        self.failures += 1
        self.due = now + pause_after(self.failures, self._first, self._longest, self._jitter())

    def hasten(self, now: float) -> None:
        """Let the next try be made at ``now``; if it fails, the pauses go on growing."""
        self.due = min(self.due, now)

    def succeeded(self, now: float = 0.0) -> None:
        """Forget the failures; the next try may be made at ``now``."""
        self.failures = 0
        self.due = now
