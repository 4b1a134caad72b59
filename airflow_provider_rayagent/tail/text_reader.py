"""Read the text of a job's log from its first character, and return the new lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.cursor import Cursor, Replay
from airflow_provider_rayagent.tail.lines import LineAssembler, RedrawingAssembler, SurrogateJoiner
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from airflow_provider_rayagent.text.redaction import Redactor


class TextReader:
    """Reads log text in chunks that end anywhere.

    :param cursor: the forwarded part; advanced as lines are returned.
    :param max_line_length: see :class:`LineAssembler`.
    :param redraws: whether ``\\r`` redraws a line; see :class:`RedrawingAssembler`.
    :param redact: the secrets that must not be split between two pieces of a line.
    :param replay: has read the forwarded part, after which the text begins; ``None``: it begins with the log.
    """

    def __init__(
        self,
        cursor: Cursor,
        max_line_length: int,
        *,
        redraws: bool = False,
        redact: Redactor = NO_SECRETS,
        replay: Replay | None = None,
    ) -> None:
        self._cursor = cursor
        self._replay = replay or Replay(cursor)
        self._pairs = SurrogateJoiner()
        assembler = RedrawingAssembler if redraws else LineAssembler
        self._assembler = assembler(max_line_length, mid_line=cursor.mid_line, redact=redact)
        self.has_text = False
        """Whether any text was received."""
        self.advanced = False
        """Whether any new text was received."""

    @property
    def replay(self) -> Replay:
        """Reads the part that was forwarded."""
        return self._replay

    @property
    def chars(self) -> int:
        """Number of characters read so far."""
        return self._replay.chars

    @property
    def recognized(self) -> bool:
        """See :attr:`Replay.recognized`."""
        return self._replay.recognized

    @property
    def is_short(self) -> bool:
        """Whether the text read so far ends before the cursor."""
        return self._replay.behind > 0

    @property
    def state(self) -> str:
        """See :attr:`LineAssembler.state`."""
        return self._assembler.state

    def feed_text(self, text: str) -> list[str]:
        """Return the new lines that ``text`` completes.

        :raises ForeignTextError: if the text differs from what was forwarded.
        """
        return self._new(self._pairs.feed(text))

    def flush(self) -> list[str]:
        """Return the last line, if it has no newline.

        :raises ForeignTextError: see :meth:`feed_text`.
        """
        lines = self._new(self._pairs.flush())
        if self._replay.behind == 1 and self._cursor.joining == "lines":
            # The newline that was added to the last message is missing in a log that does not end with one.
            lines += self._new("\n")
        last, consumed = self._assembler.flush()
        self._advance(last, consumed)
        return lines + last

    def _new(self, text: str) -> list[str]:
        if not text:
            return []
        self.has_text = True
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
