"""One reading of a job's log text, from its first character: what is new in it, as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.cursor import Cursor, Replay
from airflow_provider_rayagent.tail.lines import LineAssembler, RedrawingAssembler, SurrogateJoiner
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from airflow_provider_rayagent.text.redaction import Redactor


class TextReading:
    """A reading of plain log text, cut anywhere.

    :param cursor: the forwarded part; moved on as lines are given out.
    :param max_line_length: see :class:`LineAssembler`.
    :param redraws: whether ``\\r`` draws a line anew; see :class:`RedrawingAssembler`.
    :param redact: knows the secrets that no cut may divide.
    """

    def __init__(
        self, cursor: Cursor, max_line_length: int, *, redraws: bool = False, redact: Redactor = NO_SECRETS
    ) -> None:
        self._cursor = cursor
        self._replay = Replay(cursor)
        self._pairs = SurrogateJoiner()
        assembler = RedrawingAssembler if redraws else LineAssembler
        self._assembler = assembler(max_line_length, mid_line=cursor.mid_line, redact=redact)
        self.heard = False
        """Whether any text came."""
        self.advanced = False
        """Whether any of it was new."""

    @property
    def chars(self) -> int:
        """Characters read so far."""
        return self._replay.chars

    @property
    def recognized(self) -> bool:
        """Whether any of the text was compared with what was forwarded, and found the same."""
        return self._replay.recognized

    @property
    def is_short(self) -> bool:
        """Whether the reading has not come as far as the cursor."""
        return self._replay.behind > 0

    @property
    def state(self) -> str:
        """What an unfinished line shows that was drawn more than once; else empty."""
        return self._assembler.state

    def feed_text(self, text: str) -> list[str]:
        """Return the new lines that ``text`` completes.

        :raises ForeignTextError: if it is not the text that was forwarded before.
        """
        return self._new(self._pairs.feed(text))

    def flush(self) -> list[str]:
        """Return the last line, if the text ends without a newline.

        :raises ForeignTextError: as :meth:`feed_text`.
        """
        lines = self._new(self._pairs.flush())
        if self._replay.behind == 1 and self._cursor.joining == "lines":
            # The newline that was added to the last message is not in a text that ends without one.
            lines += self._new("\n")
        last, consumed = self._assembler.flush()
        self._advance(last, consumed)
        return lines + last

    def _new(self, text: str) -> list[str]:
        if not text:
            return []
        self.heard = True
        text = self._replay.feed(text)
        if not text:
            return []
        self.advanced = True
        lines, consumed = self._assembler.feed(text)
        self._advance(lines, consumed)
        return lines

    def _advance(self, lines: list[str], consumed: str) -> None:
        self._cursor.mid_line = self._assembler.mid_line
        self._replay.advance(consumed, len(lines))
