"""What following a job gives, in order: lines of its log, notices about the log, and changes of its status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping


class LogLine(NamedTuple):
    """A line of the job's log, without its newline; of a very long line, a piece. (A tuple, since there are many.)"""

    text: str


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


Item: TypeAlias = LogLine | Progress | Notice | JobSeen
