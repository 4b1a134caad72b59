"""The items of a followed job, in order: lines of its log, notices about the log, and changes of its status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True)
class LogLines:
    """Lines of the job's log without their newlines, or pieces of a very long line. Batched for speed."""

    lines: list[str]


@dataclass(frozen=True)
class Progress:
    """The current state of an unfinished line that the job redraws with ``\\r``."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A message about the log."""

    text: str


@dataclass(frozen=True)
class LogRewritten(Notice):
    """A notice that the log was replaced: the items that follow start at the first line of the new log."""


@dataclass(frozen=True)
class LogUnreadable(Notice):
    """A notice that the log, or its end, could not be read."""


@dataclass(frozen=True)
class JobStatusChanged:
    """The job's status has changed, or was received for the first time.

    :param details: the job's details, as received.
    """

    details: Mapping[str, Any]


Item: TypeAlias = LogLines | Progress | Notice | JobStatusChanged


def lines_in(items: Iterable[Item]) -> list[str]:
    """Return the lines of the job's log, without the other items."""
    return [line for item in items if isinstance(item, LogLines) for line in item.lines]


def in_portions(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, in lists of at most ``size`` lines or other items; one empty list if there are none."""
    portion: list[Item] = []
    room = size
    for item in items:
        rest = item
        while isinstance(rest, LogLines) and len(rest.lines) > room:
            yield [*portion, LogLines(rest.lines[:room])]
            rest = LogLines(rest.lines[room:])
            portion, room = [], size
        portion.append(rest)
        room -= len(rest.lines) if isinstance(rest, LogLines) else 1
        if room <= 0:
            yield portion
            portion, room = [], size
    if portion or room == size:
        yield portion
