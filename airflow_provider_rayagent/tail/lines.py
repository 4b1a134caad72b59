"""Assemble log text, cut anywhere, into lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from airflow_provider_rayagent.text.redaction import Redactor

CONTINUES = " [line continues]"
CONTINUED = "[continued] "

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_REDRAWS = re.compile(r"\r(?=[^\r\n])")


class SurrogateJoiner:
    """Join the halves of a surrogate pair that two JSON messages carry into the character that they mean."""

    def __init__(self) -> None:
        self._high = ""

    def feed(self, text: str) -> str:
        """Return ``text`` with pairs joined; a high half at its end is kept back for the next text."""
        if not self._high and text.isascii():
            return text
        text = self._high + text
        self._high = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._high, text = text[-1], text[:-1]
        return _PAIR.sub(_joined, text)

    def peek(self, text: str) -> str:
        """Return what :meth:`feed` would, and change nothing."""
        other = SurrogateJoiner()
        other._high = self._high
        return other.feed(text)

    def flush(self) -> str:
        """Return the half that was kept back, if its partner never came."""
        high, self._high = self._high, ""
        return high


def _joined(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le")


class Piece(str):
    """A piece of a line that is too long to be given out whole: its text, with marks where it was cut.

    :param text: the piece itself.
    :param continued: whether it goes on in a line, so that it begins with :data:`CONTINUED`.
    :param continues: whether the line goes on after it, so that it ends in :data:`CONTINUES`.
    """

    __slots__ = ("continued", "continues", "text")

    def __new__(cls, text: str, *, continued: bool, continues: bool) -> Self:
        piece = super().__new__(cls, f"{CONTINUED if continued else ''}{text}{CONTINUES if continues else ''}")
        piece.text = text
        piece.continued = continued
        piece.continues = continues
        return piece

    text: str
    continued: bool
    continues: bool


def unmarked(line: str) -> tuple[str, bool]:
    """Return a line or a piece of one without marks, and whether its line ends with it."""
    return (line.text, not line.continues) if isinstance(line, Piece) else (line, True)


def changed(line: str, change: Callable[[str], str]) -> str:
    """Return a line, or a piece with its marks, whose text is changed."""
    if isinstance(line, Piece):
        return Piece(change(line.text), continued=line.continued, continues=line.continues)
    return change(line)


class LineAssembler:
    """Split text into lines. Only ``\\n`` ends a line; everything else in it is kept as it came.

    A line longer than ``max_length`` is given out in :class:`Piece` s of that length, so that memory is bounded and
    nothing is dropped. A piece is shorter, or as much longer as needed, where it would else end within a secret: of
    a part of one nobody could tell that it is to be taken out. Where a line is cut depends on its text alone, not on
    how the text arrives.

    :param max_length: characters, at least 1.
    :param mid_line: whether the text to come goes on in a line whose beginning was already given out.
    :param redact: knows the secrets; none is taken out here.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False, redact: Redactor = NO_SECRETS) -> None:
        self._max_length = max_length
        self._max_held = max_length + redact.overlap
        self._redact = redact
        self._partial: list[str] = []
        self._partial_length = 0
        self.mid_line = mid_line

    @property
    def state(self) -> str:
        """What an unfinished line shows by now that it was drawn more than once; here no line is."""
        return ""

    def feed(self, text: str) -> tuple[list[str], str]:
        """Return the lines that ``text`` completes, and the text that they consumed (newlines included)."""
        if self._partial_length + len(text) <= self._max_held and "\n" not in text:
            if text:
                self._partial.append(text)
                self._partial_length += len(text)
            return [], ""
        text = "".join((*self._partial, text))
        end = text.rfind("\n") + 1
        lines = text[: end - 1].split("\n") if end else []
        if len(text) > self._max_length or self.mid_line:
            if self.mid_line or max(map(len, lines), default=0) > self._max_length:
                lines = self._cut(lines)
            while len(text) - end > self._max_held:
                start, end = end, self._redact.cut_at(text, end, end + self._max_length)
                lines.append(Piece(text[start:end], continued=self.mid_line, continues=True))
                self.mid_line = True
        self._partial = [text[end:]] if end < len(text) else []
        self._partial_length = len(text) - end
        return lines, text[:end]

    def flush(self) -> tuple[list[str], str]:
        """Return the last line, if it has no newline, and its text."""
        text = "".join(self._partial)
        self._partial, self._partial_length = [], 0
        if not text:
            return [], ""
        is_cut = self.mid_line
        lines = self._cut([text])
        # It has not ended: if there is more of it later, that goes on in it.
        self.mid_line = is_cut or len(lines) > 1
        return lines, text

    def _cut(self, lines: list[str]) -> list[str]:
        cut: list[str] = []
        for line in lines:
            start = 0
            while len(line) - start > self._max_length:
                end = self._redact.cut_at(line, start, start + self._max_length)
                if end == len(line):
                    break
                cut.append(Piece(line[start:end], continued=self.mid_line, continues=True))
                self.mid_line = True
                start = end
            cut.append(Piece(line[start:], continued=True, continues=False) if self.mid_line else line)
            self.mid_line = False
        return cut


class RedrawingAssembler(LineAssembler):
    """As :class:`LineAssembler`, for the log of a program that draws a line again and again, each time after ``\\r``.

    Only the last state of a line is given out. The states before it are consumed without a line as soon as the next
    one begins, so that however often a line is drawn only one state is held. ``\\r`` before ``\\n`` or at the end draws
    nothing. A state longer than ``max_length`` is no progress: pieces of it are given out as they come.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False, redact: Redactor = NO_SECRETS) -> None:
        super().__init__(max_length, mid_line=mid_line, redact=redact)
        self._redrawn = False

    @property
    def state(self) -> str:
        """What the unfinished line shows now, if it was drawn more than once; else empty."""
        return "".join(self._partial).rstrip("\r") if self._redrawn else ""

    def feed(self, text: str) -> tuple[list[str], str]:
        """Return the lines that ``text`` completes, and the text that they and superseded states consumed."""
        if self._partial and self._partial[-1].endswith("\r"):
            text = "".join((*self._partial, text))
            self._partial, self._partial_length = [], 0
        if "\r" not in text:
            self._redrawn = self._redrawn and "\n" not in text
            return super().feed(text)
        lines: list[str] = []
        consumed: list[str] = []
        *superseded, last = _REDRAWS.split(text)
        for state in superseded:
            more, used = super().feed(state + "\r")
            lines += more
            consumed += (used, *self._partial)
            self._partial, self._partial_length = [], 0
        more, used = super().feed(last)
        self._redrawn = (self._redrawn or bool(superseded)) and "\n" not in last
        return lines + more, "".join((*consumed, used))
