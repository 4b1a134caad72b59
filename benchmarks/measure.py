"""Alternating runs of several candidates, and the resulting lines of the table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import NotRequired

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
        return cells_of(self.result())

    def result(self) -> Result:
        """Return the line as it is stored and shown."""
        result: Result = {"case": self.case, "measurement": self.what, "unit": self.unit, "ours": spread(self.ours)}
        if self.baseline:
            result["baseline"] = self.baseline
        if self.theirs:
            result["theirs"] = spread(self.theirs)
        # There is no ratio to a figure of zero.
        if self.theirs and all(self.theirs):
            result["ratio"] = spread(self.ratios)
        if self.target is not None:
            result["target"] = self.target.format(self.unit)
            result["met"] = self.verdict
        if self.note:
            result["note"] = self.note
        return result


class Spread(TypedDict):
    """Figures of several rounds.

    :param min: missing, as ``max``, if there was one round only.
    """

    median: float
    min: NotRequired[float]
    max: NotRequired[float]


class Result(TypedDict):
    """A line of the table as stored in JSON.

    :param measurement: what was measured.
    :param met: ``yes`` or ``no``.
    """

    case: str
    measurement: str
    unit: str
    ours: Spread
    baseline: NotRequired[str]
    theirs: NotRequired[Spread]
    ratio: NotRequired[Spread]
    target: NotRequired[str]
    met: NotRequired[str]
    note: NotRequired[str]


HEAD = ("case", "measurement", "ours", "baseline", "ratio", "target", "met", "note")


def spread(values: Sequence[float]) -> Spread:
    """Return the median and, if there are several values, the range, with four significant digits."""
    median, low, high = (float(f"{each:.4g}") for each in (statistics.median(values), min(values), max(values)))
    return {"median": median, "min": low, "max": high} if len(values) > 1 else {"median": median}


def cells_of(result: Result) -> list[str]:
    """Return a line as cells of a Markdown table; see :data:`HEAD`."""
    baseline = result.get("baseline", "")
    theirs = f"{format_spread(result['theirs'], result['unit'])} ({baseline})" if "theirs" in result else baseline
    return [
        result["case"],
        result["measurement"],
        format_spread(result["ours"], result["unit"]),
        theirs,
        format_spread(result["ratio"], "×") if "ratio" in result else "",
        result.get("target", ""),
        result.get("met", ""),
        result.get("note", ""),
    ]


def format_spread(values: Spread, unit: str) -> str:
    """Return figures as text."""
    unit = unit if unit == "×" else f" {unit}" if unit else ""
    text = f"{format_number(values['median'])}{unit}"
    if "min" in values and "max" in values:
        return f"{text} [{format_number(values['min'])} – {format_number(values['max'])}]"
    return text


def format_number(value: float) -> str:
    """Return a number with three significant digits."""
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def table(results: Sequence[Result]) -> str:
    """Return a Markdown table."""
    rows = [HEAD, ["---"] * len(HEAD), *map(cells_of, results)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
