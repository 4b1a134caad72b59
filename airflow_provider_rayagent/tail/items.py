"""What following a job gives, in order: lines of its log, notices about the log, and changes of its status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True)
class LogLines:
    """Lines of the job's log, without their newlines; of a very long line, pieces. Many in one item, for speed."""

    lines: list[str]


@dataclass(frozen=True)
class Progress:
    """What an unfinished line, which the job draws again and again, shows at the moment."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence about the log."""

    text: str


@dataclass(frozen=True)
class LogRewritten(Notice):
    """A notice that what follows begins at the first line of another log than the one that was forwarded so far."""


@dataclass(frozen=True)
class JobSeen:
    """The job was seen in another status than before.

    :param details: the job's details as they were answered.
    """

    details: Mapping[str, Any]


Item: TypeAlias = LogLines | Progress | Notice | JobSeen


def lines_in(items: Iterable[Item]) -> list[str]:
    """Return the lines of the job's log among items."""
    return [line for item in items if isinstance(item, LogLines) for line in item.lines]


def in_portions(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, in lists with at most so many lines or other items; an empty one if there is none."""
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
