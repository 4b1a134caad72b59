"""Points in time as messages show them. Pure."""

from __future__ import annotations

from datetime import datetime, timezone

_LAST = 253_402_300_799_000.0
"""The end of the year 9999, in ms since the epoch; :mod:`datetime` has no later time."""


def moment_of(milliseconds: float) -> datetime:
    """Return a point in time, in UTC.

    :param milliseconds: since the epoch.
    """
    return datetime.fromtimestamp(min(milliseconds, _LAST) / 1000, tz=timezone.utc)


def shown_time(milliseconds: float) -> str:
    """Return a point in time with its date, such as ``2026-11-30 14:02:11 UTC``."""
    return f"{moment_of(milliseconds):%Y-%m-%d %H:%M:%S} UTC"


def shown_clock(milliseconds: float) -> str:
    """Return a point in time of which the date is clear, such as ``14:02:11 UTC``."""
    return f"{moment_of(milliseconds):%H:%M:%S} UTC"
