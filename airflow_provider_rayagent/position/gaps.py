"""Gaps: lines that a trigger wrote to a log file that is not part of the finished task's log. Pure.

A trigger writes to the log file of its triggerer. If this file is lost with the triggerer, its lines must be forwarded
again. The trigger that takes over forwards a short gap. The worker that completes the task forwards a long one, since
all triggers of a triggerer share 0.8 MB/s, and a worker writes more than ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition, as_position
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORT_GAP_CHARS = 8_000
"""The longest gap that a trigger forwards: a thousand triggers that take over at once need ten seconds for it."""
MAX_GAPS = 8
"""Number of separate gaps; further ones are merged, which repeats the lines between them."""
MISSING_LINES = coded(
    Code.LINES_LOST,
    "The log of job %s is incomplete: %s were in the log file of a triggerer that stopped early, and cannot be "
    "forwarded again: %s.",
)


@dataclass(frozen=True)
class Gap:
    """A range of lines that is missing from the finished task's log.

    :param start: the position (:meth:`JobRecords.position`) of the first line.
    :param until: number of the last line, from 1; ``None``: the last line of the log.
    """

    start: LogPosition
    until: int | None

    @property
    def first(self) -> int:
        """The number of the first line, from 1."""
        return self.start["lines"] + 1

    @property
    def is_empty(self) -> bool:
        """Whether the gap contains no line."""
        return self.until is not None and self.until < self.first

    def __str__(self) -> str:
        return f"lines {self.first} and later" if self.until is None else f"lines {self.first} to {self.until}"

    def to_json(self) -> dict[str, Any]:
        """Return the gap as JSON primitives."""
        return {"start": dict(self.start), "until": self.until}

    @classmethod
    def from_json(cls, value: object) -> Gap | None:
        """Return the gap from a value of :meth:`to_json`, ``None`` if the value is invalid."""
        if not isinstance(value, dict):
            return None
        start, until = as_position(value.get("start")), value.get("until")
        # Only the worker has a gap without an end, and saves none.
        return None if start is None or not isinstance(until, int) else cls(start, until)


@dataclass(frozen=True)
class TakeOver:
    """How a trigger continues after another one of the same try that stopped early.

    :param position: where in the log to start.
    :param gaps: the gaps that the worker that completes the task has to forward.
    :param lost: the gap that the other trigger left, if any.
    :param is_repeated: whether this trigger forwards that gap itself.
    """

    position: LogPosition
    gaps: list[Gap] = field(default_factory=list)
    lost: Gap | None = None
    is_repeated: bool = False


def take_over(saved: Mapping[str, Any], start: LogPosition | None, *, is_kept: bool) -> TakeOver:
    """Return how to continue from the state that another trigger saved.

    :param saved: the state, which may be from a version without gaps.
    :param start: the position at which the first trigger started; ``None``: the first line.
    :param is_kept: whether the other trigger's log file becomes part of the finished log.
    """
    # Verified by the caller (``read_position``).
    position: LogPosition = saved["position"]
    gaps = saved_gaps(saved)
    if is_kept:
        return TakeOver(position, gaps)
    began = began_at(saved, start)
    lost = Gap(began, position["lines"])
    if lost.is_empty:
        return TakeOver(position, gaps)
    if position["chars"] - began["chars"] <= SHORT_GAP_CHARS:
        return TakeOver(began, gaps, lost, is_repeated=True)
    return TakeOver(position, add_gap(gaps, lost), lost)


def saved_gaps(saved: Mapping[str, Any]) -> list[Gap]:
    """Return the gaps in the state that a trigger saved."""
    found = saved.get("gaps")
    return [gap for gap in map(Gap.from_json, found) if gap is not None] if isinstance(found, list) else []


def began_at(saved: Mapping[str, Any], start: LogPosition | None) -> LogPosition:
    """Return the position at which the trigger that saved this state started; versions without gaps did not save it."""
    return as_position(saved.get("began")) or start or Cursor().to_json()


def add_gap(gaps: Sequence[Gap], gap: Gap) -> list[Gap]:
    """Return ``gaps`` with one more at the end; adjacent gaps are merged."""
    start = gap.start.copy()
    # They can hold 100,000 characters, and who forwards a gap does not look for them (``JobObserver.forward_gap``).
    start.pop("result", None)
    start.pop("messages", None)
    *before, last = [*gaps, Gap(start, gap.until)]
    while before and (len(before) >= MAX_GAPS or (before[-1].until or 0) >= last.first - 1):
        last = Gap(before.pop().start, last.until)
    return [*before, last]
