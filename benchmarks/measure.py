"""Runs of two things in turn, and the lines of the table that they make."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

NOISE = 2.0
"""A ratio that misses its aim by more than this factor is wrong, and not noise."""


def in_turn(rounds: int, *runs: Callable[[], T]) -> list[list[T]]:
    """Run each once a round, every round beginning with the next one; return the results of each."""
    results: list[list[T]] = [[] for _ in runs]
    for number in range(rounds):
        for step in range(len(runs)):
            which = (number + step) % len(runs)
            results[which].append(runs[which]())
    return results


@dataclass(frozen=True)
class Aim:
    """What a figure should be.

    :param least: it should be at least so much.
    :param most: it should be at most so much.
    :param of: whether that is said of the ratio to what is compared with, or of the figure itself.
    :param usual: the ratio where the aim is known to be missed.
    """

    least: float | None = None
    most: float | None = None
    of: Literal["ratio", "figure"] = "ratio"
    usual: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether ``value`` is as it should be."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def is_far_from(self, ratio: float) -> bool:
        """Whether ``ratio`` misses the aim, or what is usual, by more than noise explains; see :data:`NOISE`."""
        least, most = (None if bound is None else self.usual or bound for bound in (self.least, self.most))
        return (least is not None and ratio < least / NOISE) or (most is not None and ratio > most * NOISE)

    def in_words(self, unit: str) -> str:
        """Return the aim with the unit of the figure that it may be about."""
        unit = "×" if self.of == "ratio" else f" {unit}"
        bounds = (("≥", self.least), ("≤", self.most))
        return " and ".join(f"{sign} {bound:g}{unit}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    :param case: the benchmark's name.
    :param what: what was measured.
    :param unit: of the figures.
    :param ours: one figure a round.
    :param theirs: the figures of what is compared with, of the same rounds.
    :param against: what is compared with.
    :param aim: what it should be, if there is an aim.
    :param note: what else there is to say, in few words.
    """

    case: str
    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = field(default=())
    against: str = ""
    aim: Aim | None = None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, round by round."""
        return [mine / other if other else float("inf") for mine, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def judged(self) -> float:
        """What the aim is about."""
        values = self.ratios if self.aim is not None and self.aim.of == "ratio" else self.ours
        return statistics.median(values)

    @property
    def verdict(self) -> str:
        """Whether the aim is met."""
        return "" if self.aim is None else "yes" if self.aim.is_met(self.judged) else "no"

    @property
    def is_wrong(self) -> bool:
        """Whether a ratio misses its aim by more than noise explains; a bare figure is the machine's."""
        return self.aim is not None and self.aim.of == "ratio" and self.aim.is_far_from(self.judged)

    def cells(self) -> list[str]:
        """Return the line as cells of a Markdown table; see :data:`HEAD`."""
        ratios = spread(self.ratios, "×") if self.theirs else ""
        theirs = f"{spread(self.theirs, self.unit)} ({self.against})" if self.theirs else self.against
        return [
            self.case,
            self.what,
            spread(self.ours, self.unit),
            theirs,
            ratios,
            "" if self.aim is None else self.aim.in_words(self.unit),
            self.verdict,
            self.note,
        ]


HEAD = ("case", "what", "ours", "compared with", "ratio", "aim", "met", "note")


def spread(values: Sequence[float], unit: str) -> str:
    """Return the median and, of several values, the range."""
    unit = unit if unit == "×" else f" {unit}" if unit else ""
    text = f"{short(statistics.median(values))}{unit}"
    return f"{text} [{short(min(values))} – {short(max(values))}]" if len(values) > 1 else text


def short(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def table(lines: Sequence[Line]) -> str:
    """Return a Markdown table."""
    rows = [HEAD, ["---"] * len(HEAD), *(line.cells() for line in lines)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
