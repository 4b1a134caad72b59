"""Durations, as messages show them. Pure."""

from __future__ import annotations

_UNITS = (("day", 86_400.0), ("hour", 3_600.0), ("minute", 60.0), ("second", 1.0))


def shown_duration(seconds: float) -> str:
    """Return a duration in the largest unit of which there are two, such as ``90 seconds`` or ``2.5 hours``."""
    unit, length = next(((unit, length) for unit, length in _UNITS if round(seconds) >= 2 * length), _UNITS[-1])
    amount = f"{seconds / length:.{0 if length <= 1 else 1}f}".removesuffix(".0")
    return f"{amount} {unit}{'' if amount == '1' else 's'}"
