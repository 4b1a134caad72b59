"""The clock of a service, as far as its responses show it."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK_SECONDS = 1.0
"""How old a response may be when it arrives. An older one makes the estimate start again, which is only less exact."""


def seconds_of_date(date: str | None) -> float | None:
    """Return the time in a ``Date`` header in seconds since the epoch; ``None`` if it is missing or invalid."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None


class ServiceClock:
    """Estimates a service's clock from the ``Date`` headers of its responses (RFC 9110, section 6.6.1).

    A header has whole seconds and is some time old when it arrives, so each one gives a lower bound. The highest one of
    several responses is exact to a fraction of a second.

    :param monotonic: the own clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead: float | None = None

    def note(self, date: str | None) -> None:
        """Process the ``Date`` header of a response that has just arrived; ``None``: it has none."""
        seconds = seconds_of_date(date)
        if seconds is None:
            return
        ahead = seconds - self._monotonic()
        if self._ahead is None or not ahead < self._ahead < ahead + 1 + NETWORK_SECONDS:
            # The first response, a better bound, or a clock that was set back.
            self._ahead = ahead

    def seconds_since(self, moment: float) -> float | None:
        """Return how long ago a moment of the service's clock was, at least; ``None`` if its clock is unknown.

        :param moment: seconds since the epoch.
        """
        return None if self._ahead is None else self._monotonic() + self._ahead - moment
