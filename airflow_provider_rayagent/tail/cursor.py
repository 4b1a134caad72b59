"""The position in a log up to which it was forwarded, with digests that verify a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

Joining = Literal["unknown", "raw", "lines"]
"""How the messages of a stream form the text: concatenated as is, or as one line each without its newline."""

KNOWN_CHARS = 4_096
"""Length of :attr:`Replay.known`."""
RECENT_CHARS = 32_768
"""Length of :attr:`Replay.recent`. A triggerer holds them for each job with a long log."""
_DIGEST_BYTES = 16
# Each mark but the last covers at least 8 times as much as the one before, which makes 14 for a log of 100 GB.
_MARK_RATIO = 8


# Stored in XComs, which another release may read after an upgrade: the keys have to keep their meaning.
class _CursorState(TypedDict):
    """The JSON form of a :class:`Cursor`."""

    chars: int
    lines: int
    mid_line: bool
    joining: Joining
    marks: list[list[Any]]


class LogPosition(_CursorState, total=False):
    """The JSON form of a position at which to resume: a cursor, and the state of processing its lines.

    ``shown`` is the number of lines that count against ``max_lines``; ``result`` and ``messages`` are what the job has
    printed for Airflow (``render/printed_finder.py``).
    """

    shown: int
    result: Any
    messages: Any
    from_first_line: bool


class ForeignTextError(Exception):
    """A replay differs from the text that was forwarded."""


@dataclass
class Cursor:
    """The forwarded part of a log: its length, and digests to verify it.

    :param chars: number of characters forwarded, including newlines.
    :param lines: number of lines forwarded; each piece of a split line counts.
    :param mid_line: whether the forwarded part ends within a line.
    :param joining: how the stream's messages form the text, once that is known.
    :param marks: ``(chars, digest)`` of prefixes of the forwarded part, in ascending order. When a replay starts, the
        last one covers the whole part. The few earlier ones detect a different text early.
    """

    chars: int = 0
    lines: int = 0
    mid_line: bool = False
    joining: Joining = "unknown"
    marks: list[tuple[int, str]] = field(default_factory=list)

    def to_json(self) -> LogPosition:
        """Return the cursor as JSON primitives, less than 1 KB in size."""
        return {
            "chars": self.chars,
            "lines": self.lines,
            "mid_line": self.mid_line,
            "joining": self.joining,
            "marks": [list(mark) for mark in self.marks],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        """Return the cursor that :meth:`to_json` has serialized.

        :raises ValueError: if ``value`` is not a serialized cursor.
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
            # OverflowError: ``json`` accepts Infinity, which int() does not.
            raise ValueError("not a log cursor") from error
        ends = [chars for chars, _ in cursor.marks]
        if (
            cursor.joining not in ("unknown", "raw", "lines")
            or [0, *ends] != sorted({0, *ends})
            or cursor.chars != (ends[-1] if ends else 0)
        ):
            raise ValueError("not a log cursor")
        return cursor


def as_position(value: object) -> LogPosition | None:
    """Return ``value`` if it is the position of a valid cursor, else ``None``."""
    if not isinstance(value, dict):
        return None
    try:
        Cursor.from_json(value)
    except ValueError:
        return None
    return cast("LogPosition", value)


class Replay:
    """Reads a log from its first character, verifies it against the cursor, and advances the cursor.

    :param cursor: shared by all replays of one log; only one of them may advance it at a time.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._expected = list(cursor.marks)
        self.chars = 0
        """Number of characters read so far, including those held back."""
        self.recognized = False
        """Whether at least one prefix matched its digest."""
        self._recent: list[str] = []
        self._recent_chars = 0
        self._hashed = 0

    @property
    def behind(self) -> int:
        """Number of characters to read before new text starts."""
        return max(self._cursor.chars - self.chars, 0)

    @property
    def recent(self) -> str:
        """The last characters of the forwarded part that was read."""
        return "".join(self._recent)[-RECENT_CHARS:]

    @property
    def known(self) -> str:
        """The last of these, by which the position is found in the last lines of the log."""
        return self.recent[-KNOWN_CHARS:]

    def covers(self, cursor: Cursor) -> bool:
        """Whether exactly the part that this cursor marks was read."""
        return self._cursor is cursor and self._hashed == cursor.chars

    def continued(self) -> Replay:
        """Return a replay that continues right after the forwarded part, all of which was read."""
        other = Replay(self._cursor)
        other._hash, other._hashed, other._expected = self._hash.copy(), self._hashed, []
        other._recent, other._recent_chars = [self.recent], len(self.recent)
        other.chars, other.recognized = self._hashed, True
        return other

    def feed(self, text: str) -> str:
        """Return the part of ``text`` that is new.

        :raises ForeignTextError: if the text differs from what was forwarded.
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
        """Advance the cursor by ``text``, which must follow it directly."""
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
        # The escapes of JSON may contain lone surrogates, which strict UTF-8 cannot encode.
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        self._hashed += len(text)
        self._recent.append(text[-RECENT_CHARS:])
        self._recent_chars += len(self._recent[-1])
        # Rarely, since it copies them.
        if self._recent_chars > 2 * RECENT_CHARS:
            self._recent = [self.recent]
            self._recent_chars = len(self._recent[0])
