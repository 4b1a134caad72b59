"""Where in the text of a log the forwarded part ends, and the proof that a replay is of the same text."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

Joining = Literal["unknown", "raw", "lines"]
"""How the messages of a stream make up its text: as they are, or one line each without its newline."""

_DIGEST_BYTES = 16
_MARK_RATIO = 8


class _CursorState(TypedDict):
    """A :class:`Cursor` as JSON."""

    chars: int
    lines: int
    mid_line: bool
    joining: Joining
    marks: list[list[Any]]


class LogPosition(_CursorState, total=False):
    """Where to resume in a log, as JSON: a cursor, and what was made of the lines after it.

    ``shown`` is the number of lines that count against ``max_lines``, ``again`` the number of lines after the cursor
    that were forwarded already, and ``result`` the state of the search for the job's result.
    """

    shown: int
    again: int
    result: Any


class ForeignTextError(Exception):
    """A replayed text is not the one that was forwarded before."""


@dataclass
class Cursor:
    """The forwarded part of a log text: its length, and digests that recognize it.

    :param chars: characters forwarded, newlines included.
    :param lines: lines forwarded; a line given out in pieces counts once each piece.
    :param mid_line: whether the forwarded part ends within a line.
    :param joining: how the stream's messages are joined, once that is known.
    :param marks: ``(chars, digest)`` of prefixes of the forwarded part, ascending. The last one is the whole
        part wherever a replay begins; the few before it tell early that another text is coming.
    """

    chars: int = 0
    lines: int = 0
    mid_line: bool = False
    joining: Joining = "unknown"
    marks: list[tuple[int, str]] = field(default_factory=list)

    def to_json(self) -> LogPosition:
        """Return the cursor as JSON primitives, under 1 KB."""
        return {
            "chars": self.chars,
            "lines": self.lines,
            "mid_line": self.mid_line,
            "joining": self.joining,
            "marks": [list(mark) for mark in self.marks],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        """Return the cursor that :meth:`to_json` gave.

        :raises ValueError: if ``value`` is not one.
        """
        try:
            cursor = cls(
                chars=int(value["chars"]),
                lines=int(value["lines"]),
                mid_line=bool(value["mid_line"]),
                joining=value["joining"],
                marks=[(int(chars), str(digest)) for chars, digest in value["marks"]],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("not a log cursor") from error
        ends = [chars for chars, _ in cursor.marks]
        if (
            cursor.joining not in ("unknown", "raw", "lines")
            or [0, *ends] != sorted({0, *ends})
            or cursor.chars != (ends[-1] if ends else 0)
        ):
            raise ValueError("not a log cursor")
        return cursor


class Replay:
    """One reading of the text from its first character, checked against the cursor and moving it on.

    :param cursor: shared by all readings of one log; only one reading may advance it at a time.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._expected = list(cursor.marks)
        self.chars = 0
        """Characters read so far, the held ones included."""
        self.recognized = False
        """Whether a prefix was compared with what was forwarded, and found the same."""

    @property
    def behind(self) -> int:
        """Characters that are still to be read before new text begins."""
        return max(self._cursor.chars - self.chars, 0)

    def feed(self, text: str) -> str:
        """Return the part of ``text`` that is new.

        :raises ForeignTextError: if a prefix differs from what was forwarded.
        """
        while self._expected and text:
            chars, digest = self._expected[0]
            part = text[: chars - self.chars]
            self._update(part)
            self.chars += len(part)
            text = text[len(part) :]
            if self.chars == chars:
                if self._hash.hexdigest() != digest:
                    raise ForeignTextError
                self.recognized = True
                del self._expected[0]
        self.chars += len(text)
        return text

    def advance(self, text: str, lines: int) -> None:
        """Count ``text``, the next after the cursor, as forwarded."""
        if not text:
            return
        self._update(text)
        cursor = self._cursor
        cursor.chars += len(text)
        cursor.lines += lines
        if len(cursor.marks) > 1 and cursor.marks[-1][0] < _MARK_RATIO * cursor.marks[-2][0]:
            cursor.marks.pop()
        cursor.marks.append((cursor.chars, self._hash.hexdigest()))

    def _update(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass"))
