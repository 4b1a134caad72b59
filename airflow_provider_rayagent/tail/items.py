"""The items of a followed job, in order: lines of its log, notices about the log, and changes of its status."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PORTION_CHARS = 64_000
"""Characters of a portion. A message of 16,000 characters that has thousands of values takes 10 ms."""


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
    """A message about the log or the status.

    :param level: that of Python's logging.
    """

    text: str
    level: int = logging.WARNING


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
    """Yield the items in order, in lists of at most ``size`` lines or other items; one empty list if there are none.

    A list ends early with the line that completes :data:`PORTION_CHARS` characters.
    """
    portion: list[Item] = []
    room, chars = size, PORTION_CHARS
    for item in items:
        rest: Item | None = item
        while rest is not None:
            part, rest = rest, None
            count = 1
            if isinstance(part, LogLines):
                lines = part.lines
                count, chars = _fitting(lines, room, chars)
                if count < len(lines):
                    part, rest = LogLines(lines[:count]), LogLines(lines[count:])
            portion.append(part)
            room -= count
            if room <= 0 or chars <= 0:
                yield portion
                portion, room, chars = [], size, PORTION_CHARS
    if portion or room == size:
        yield portion


def _fitting(lines: Sequence[str], room: int, chars: int) -> tuple[int, int]:
    """Return the number of lines until a portion is full, and how many characters are left then, perhaps fewer than 0.

    :param room: number of lines that are left.
    """
    count = 0
    for line in islice(lines, room):
        count += 1
        chars -= len(line)
        if chars <= 0:
            break
    return count, chars
