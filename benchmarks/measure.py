"""Alternating runs of several candidates, and the resulting lines of the table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

NOISE = 2.0
"""A ratio that misses its target by more than this factor is a failure, not noise."""


def run_alternately(rounds: int, *runs: Callable[[], T]) -> list[list[T]]:
    """Run each candidate once per round, each round starting with another one; return the results of each."""
    results: list[list[T]] = [[] for _ in runs]
    for number in range(rounds):
        for step in range(len(runs)):
            which = (number + step) % len(runs)
            results[which].append(runs[which]())
    return results


@dataclass(frozen=True)
class Target:
    """A target for a figure.

    :param minimum: minimum value.
    :param maximum: maximum value.
    :param of: whether the target applies to the ratio to the baseline, or to the figure itself.
    :param expected: the expected ratio if it is known to miss the target.
    """

    minimum: float | None = None
    maximum: float | None = None
    of: Literal["ratio", "figure"] = "ratio"
    expected: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether ``value`` meets the target."""
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def is_missed_by_more_than_noise(self, ratio: float) -> bool:
        """Whether ``ratio`` misses the target, or the expected ratio, by more than :data:`NOISE`."""
        minimum, maximum = (None if bound is None else self.expected or bound for bound in (self.minimum, self.maximum))
        return (minimum is not None and ratio < minimum / NOISE) or (maximum is not None and ratio > maximum * NOISE)

    def format(self, unit: str) -> str:
        """Return the target as text; ``unit`` is the unit of the figure."""
        unit = "×" if self.of == "ratio" else f" {unit}"
        bounds = (("≥", self.minimum), ("≤", self.maximum))
        return " and ".join(f"{sign} {bound:g}{unit}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    :param case: name of the benchmark.
    :param what: what was measured.
    :param unit: unit of the figures.
    :param ours: one figure per round.
    :param theirs: the baseline's figures in the same rounds.
    :param baseline: name of the baseline.
    :param target: the target, if there is one.
    :param note: short remark.
    """

    case: str
    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = field(default=())
    baseline: str = ""
    target: Target | None = None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ratios of ours to theirs, by round."""
        return [mine / other if other else float("inf") for mine, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def judged_value(self) -> float:
        """The value to which the target applies."""
        values = self.ratios if self.target is not None and self.target.of == "ratio" else self.ours
        return statistics.median(values)

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        return "" if self.target is None else "yes" if self.target.is_met(self.judged_value) else "no"

    @property
    def is_failed(self) -> bool:
        """Whether a ratio misses its target by more than noise; absolute figures depend on the machine."""
        return (
            self.target is not None
            and self.target.of == "ratio"
            and self.target.is_missed_by_more_than_noise(self.judged_value)
        )

    def cells(self) -> list[str]:
        """Return the line as cells of a Markdown table; see :data:`HEAD`."""
        ratios = format_spread(self.ratios, "×") if self.theirs else ""
        theirs = f"{format_spread(self.theirs, self.unit)} ({self.baseline})" if self.theirs else self.baseline
        return [
            self.case,
            self.what,
            format_spread(self.ours, self.unit),
            theirs,
            ratios,
            "" if self.target is None else self.target.format(self.unit),
            self.verdict,
            self.note,
        ]


HEAD = ("case", "measurement", "ours", "baseline", "ratio", "target", "met", "note")


def format_spread(values: Sequence[float], unit: str) -> str:
    """Return the median and, if there are several values, the range."""
    unit = unit if unit == "×" else f" {unit}" if unit else ""
    text = f"{format_number(statistics.median(values))}{unit}"
    return f"{text} [{format_number(min(values))} – {format_number(max(values))}]" if len(values) > 1 else text


def format_number(value: float) -> str:
    """Return a number with three significant digits."""
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def table(lines: Sequence[Line]) -> str:
    """Return a Markdown table."""
    rows = [HEAD, ["---"] * len(HEAD), *(line.cells() for line in lines)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
