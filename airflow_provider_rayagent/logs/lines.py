"""Assemble log text, cut anywhere, into lines."""

from __future__ import annotations

import re

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


class LineAssembler:
    """Split text into lines. Only ``\\n`` ends a line; everything else in it is kept as it came.

    A line longer than ``max_length`` is given out in pieces of that length, each but the last ending in
    :data:`CONTINUES` and each but the first beginning with :data:`CONTINUED`, so that memory is bounded and
    nothing is dropped.

    :param max_length: characters, at least 1.
    :param mid_line: whether the text to come goes on in a line whose beginning was already given out.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False) -> None:
        self._max_length = max_length
        self._partial: list[str] = []
        self._partial_length = 0
        self.mid_line = mid_line

    @property
    def state(self) -> str:
        """What an unfinished line shows by now that it was drawn more than once; here no line is."""
        return ""

    def feed(self, text: str) -> tuple[list[str], str]:
        """Return the lines that ``text`` completes, and the text that they consumed (newlines included)."""
        if self._partial_length + len(text) <= self._max_length and "\n" not in text:
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
            while len(text) - end > self._max_length:
                lines.append(self._piece(text[end : end + self._max_length]) + CONTINUES)
                self.mid_line = True
                end += self._max_length
        self._partial = [text[end:]] if end < len(text) else []
        self._partial_length = len(text) - end
        return lines, text[:end]

    def flush(self) -> tuple[list[str], str]:
        """Return the last line, if it has no newline, and its text."""
        text = "".join(self._partial)
        self._partial, self._partial_length = [], 0
        if not text:
            return [], ""
        return [self._piece(text)], text

    def _cut(self, lines: list[str]) -> list[str]:
        cut = []
        for line in lines:
            start = 0
            while len(line) - start > self._max_length:
                cut.append(self._piece(line[start : start + self._max_length]) + CONTINUES)
                self.mid_line = True
                start += self._max_length
            cut.append(self._piece(line[start:]))
            self.mid_line = False
        return cut

    def _piece(self, text: str) -> str:
        return CONTINUED + text if self.mid_line else text


class RedrawingAssembler(LineAssembler):
    """As :class:`LineAssembler`, for the log of a program that draws a line again and again, each time after ``\\r``.

    Only the last state of a line is given out. The states before it are consumed without a line as soon as the next
    one begins, so that however often a line is drawn only one state is held. ``\\r`` before ``\\n`` or at the end draws
    nothing. A state longer than ``max_length`` is no progress: pieces of it are given out as they come.
    """

    def __init__(self, max_length: int, *, mid_line: bool = False) -> None:
        super().__init__(max_length, mid_line=mid_line)
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
