"""Lines that a trigger wrote to a log file that the finished task's log does not include. Pure.

A trigger writes to the log file of its triggerer. Where that file is lost with the triggerer, its lines have to be
forwarded again: a few of them by the trigger that takes over, many by the worker that ends the task, since all triggers
of a triggerer share 0.8 MB a second and a worker writes a hundred times as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.render.records import as_position
from airflow_provider_rayagent.tail.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORT_GAP_CHARS = 8_000
"""A trigger forwards so much again itself; a thousand triggers that take over at once do so in ten seconds."""
MAX_GAPS = 8
"""Gaps that are kept apart; more become one, whose lines between them are repeated."""
MISSING_LINES = (
    "The log of job %s is incomplete here: %s were in the log file of a triggerer that ended early, and are not "
    "forwarded again: %s."
)


@dataclass(frozen=True)
class Gap:
    """Lines of a job's log that are not part of the finished task's log.

    :param start: the position (:meth:`JobRecords.position`) at which they begin.
    :param until: how many lines of the log there are up to their end; ``None``: to the log's end.
    """

    start: Mapping[str, Any]
    until: int | None

    @property
    def first(self) -> int:
        """The number of the first line, from 1."""
        return lines_shown(self.start) + 1

    @property
    def is_empty(self) -> bool:
        """Whether there is no line in it."""
        return self.until is not None and self.until < self.first

    def __str__(self) -> str:
        return f"from line {self.first} on" if self.until is None else f"lines {self.first} to {self.until}"

    def to_json(self) -> dict[str, Any]:
        """Return the gap as JSON primitives."""
        return {"start": dict(self.start), "until": self.until}

    @classmethod
    def from_json(cls, value: object) -> Gap | None:
        """Return the gap that :meth:`to_json` gave, ``None`` if ``value`` is not one."""
        if not isinstance(value, dict):
            return None
        start, until = as_position(value.get("start")), value.get("until")
        return None if start is None or not isinstance(until, int) else cls(start, until)


@dataclass(frozen=True)
class TakeOver:
    """How a trigger goes on where another one of the same try ended early.

    :param position: where in the log it begins.
    :param gaps: what the worker that ends the task has to forward again.
    :param lost: what the other trigger wrote that is not part of the finished log, if there is any.
    :param is_repeated: whether the trigger forwards that again itself.
    """

    position: Mapping[str, Any]
    gaps: list[Gap] = field(default_factory=list)
    lost: Gap | None = None
    is_repeated: bool = False


def take_over(saved: Mapping[str, Any], start: Mapping[str, Any] | None, *, is_kept: bool) -> TakeOver:
    """Return how to go on from what another trigger saved.

    :param saved: has a position as ``cursor``; what a release without gaps saved is understood too.
    :param start: the position at which the first trigger began; ``None``: at the first line.
    :param is_kept: whether the other trigger's log file is part of the finished log.
    """
    position: Mapping[str, Any] = saved["cursor"]
    gaps = saved_gaps(saved)
    if is_kept:
        return TakeOver(position, gaps)
    began = began_at(saved, start)
    lost = Gap(began, lines_shown(position))
    if lost.is_empty:
        return TakeOver(position, gaps)
    if position["chars"] - began["chars"] <= SHORT_GAP_CHARS:
        return TakeOver(began, gaps, lost, is_repeated=True)
    return TakeOver(position, add_gap(gaps, lost), lost)


def saved_gaps(saved: Mapping[str, Any]) -> list[Gap]:
    """Return the gaps that a trigger saved."""
    found = saved.get("gaps")
    return [gap for gap in map(Gap.from_json, found) if gap is not None] if isinstance(found, list) else []


def began_at(saved: Mapping[str, Any], start: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the position at which the trigger that saved this began; a release without gaps did not save it."""
    return as_position(saved.get("began")) or start or Cursor().to_json()


def add_gap(gaps: Sequence[Gap], gap: Gap) -> list[Gap]:
    """Return ``gaps`` and one after them; what adjoins becomes one."""
    start = {name: value for name, value in gap.start.items() if name != "result"}
    *before, last = [*gaps, Gap(start, gap.until)]
    while before and (len(before) >= MAX_GAPS or (before[-1].until or 0) >= last.first - 1):
        last = Gap(before.pop().start, last.until)
    return [*before, last]


def lines_shown(position: Mapping[str, Any]) -> int:
    """Return how many lines of the log were forwarded up to a position; those held back do not count."""
    return int(position["lines"]) + int(position.get("again", 0))
