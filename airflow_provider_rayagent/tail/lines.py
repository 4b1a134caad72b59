"""Assemble chunks of log text into lines."""

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
    """Joins a surrogate pair that is split between two JSON messages into one character."""

    def __init__(self) -> None:
        self._high = ""

    def feed(self, text: str) -> str:
        """Return ``text`` with surrogate pairs joined; a high surrogate at its end is held back."""
        if not self._high and text.isascii():
            return text
        text = self._high + text
        self._high = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._high, text = text[-1], text[:-1]
        return _PAIR.sub(_join_pair, text)

    def peek(self, text: str) -> str:
        """Return what :meth:`feed` would return, without changing the state."""
        other = SurrogateJoiner()
        other._high = self._high
        return other.feed(text)

    def flush(self) -> str:
        """Return the high surrogate that was held back, or an empty string."""
        high, self._high = self._high, ""
        return high


def _join_pair(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le")


class Piece(str):
    """A piece of a line that is too long: its text, with marks where the line was split.

    :param text: the text of the piece, without marks.
    :param continued: whether it continues a line, so that it starts with :data:`CONTINUED`.
    :param continues: whether the line continues after it, so that it ends with :data:`CONTINUES`.
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


def strip_marks(line: str) -> tuple[str, bool]:
    """Return the text of a line or piece without marks, and whether it ends its line."""
    return (line.text, not line.continues) if isinstance(line, Piece) else (line, True)


def map_text(line: str, change: Callable[[str], str]) -> str:
    """Return a line or piece with ``change`` applied to its text; a piece keeps its marks."""
    if isinstance(line, Piece):
        return Piece(change(line.text), continued=line.continued, continues=line.continues)
    return change(line)


class LineAssembler:
    """Splits text into lines. Only ``\\n`` ends a line; all other characters are kept.

    A line longer than ``max_length`` is split into :class:`Piece` objects of that length, so that memory is bounded and
    nothing is dropped. A piece that would end within a secret is shorter or longer, since a part of a secret cannot be
    recognized and redacted. Where a line is split depends only on its text, not on the chunks in which it arrives.

    :param max_length: characters, at least 1.
    :param mid_line: whether the text continues a line of which pieces were already returned.
    :param redact: the secrets; they are not redacted here.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False, redact: Redactor = NO_SECRETS) -> None:
        self._max_length = max_length
        self._redact = redact
        self._partial: list[str] = []
        self._partial_length = 0
        self.mid_line = mid_line

    @property
    def state(self) -> str:
        """The current state of an unfinished line that was redrawn; empty here, where ``\\r`` does not redraw."""
        return ""

    @property
    def _max_held(self) -> int:
        # cut_at() needs so many characters after the cut, to know whether it would split a secret.
        return self._max_length + self._redact.overlap

    def feed(self, text: str) -> tuple[list[str], str]:
        """Return the lines that ``text`` completes, and the text that they consumed, including newlines."""
        if self._partial_length + len(text) <= self._max_held and "\n" not in text:
            if text:
                # Joining the parts at each call would take quadratic time for a long line.
                self._partial.append(text)
                self._partial_length += len(text)
            return [], ""
        text = "".join((*self._partial, text))
        end = text.rfind("\n") + 1
        # Not splitlines(), which also splits at ``\r``, form feeds, U+2028 and more (``str.splitlines``).
        lines = text[: end - 1].split("\n") if end else []
        if len(text) > self._max_length or self.mid_line:
            if self.mid_line or max(map(len, lines), default=0) > self._max_length:
                lines = self._split(lines)
            while len(text) - end > self._max_held:
                start, end = end, self._redact.cut_at(text, end, end + self._max_length)
                lines.append(Piece(text[start:end], continued=self.mid_line, continues=True))
                self.mid_line = True
        self._partial = [text[end:]] if end < len(text) else []
        self._partial_length = len(text) - end
        return lines, text[:end]

    def flush(self) -> tuple[list[str], str]:
        """Return the last line, if it has no newline, and the text that it consumed."""
        text = "".join(self._partial)
        self._partial, self._partial_length = [], 0
        if not text:
            return [], ""
        was_mid_line = self.mid_line
        lines = self._split([text])
        # The line may continue later, since it has no newline.
        self.mid_line = was_mid_line or len(lines) > 1
        return lines, text

    def _split(self, lines: list[str]) -> list[str]:
        pieces: list[str] = []
        for line in lines:
            start = 0
            while len(line) - start > self._max_length:
                end = self._redact.cut_at(line, start, start + self._max_length)
                if end == len(line):
                    break
                pieces.append(Piece(line[start:end], continued=self.mid_line, continues=True))
                self.mid_line = True
                start = end
            pieces.append(Piece(line[start:], continued=True, continues=False) if self.mid_line else line)
            self.mid_line = False
        return pieces


class RedrawingAssembler(LineAssembler):
    """A :class:`LineAssembler` for programs that redraw a line with ``\\r``, such as progress bars.

    Only the last state of a line is returned. An earlier state is consumed without a line as soon as the next one
    starts, so that only one state is held. ``\\r`` before ``\\n`` or at the end of the text does not start a new state.
    A state longer than ``max_length`` is not treated as progress, but like a line that ``\\r`` ends: its pieces are
    returned as they arrive, and the last one even if another state follows.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False, redact: Redactor = NO_SECRETS) -> None:
        super().__init__(max_length, mid_line=mid_line, redact=redact)
        self._redrawn = False

    @property
    def state(self) -> str:
        """The current state of the unfinished line, if it was redrawn; otherwise empty."""
        return "".join(self._partial).rstrip("\r") if self._redrawn else ""

    def feed(self, text: str) -> tuple[list[str], str]:
        """Return the lines that ``text`` completes, and the text that they and superseded states consumed."""
        # Only the next character tells whether this ``\r`` belongs to the end of the line or starts a new state.
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
            rest = "".join(self._partial)
            lines += (*more, *self._split([rest])) if self.mid_line else more
            consumed += (used, rest)
            self._partial, self._partial_length = [], 0
        more, used = super().feed(last)
        self._redrawn = (self._redrawn or bool(superseded)) and "\n" not in last
        return lines + more, "".join((*consumed, used))
