"""One reading of a job's log text, from its first character: what is new in it, as lines."""

from __future__ import annotations

from airflow_provider_rayagent.logs.cursor import Cursor, ForeignTextError, Replay
from airflow_provider_rayagent.logs.lines import LineAssembler, SurrogateJoiner

_MAX_QUESTIONS = 20
_MAX_WAITING_CHARS = 1_000_000


class TextReading:
    """A reading of plain log text, cut anywhere.

    :param cursor: the forwarded part; moved on as lines are given out.
    :param max_line_length: see :class:`LineAssembler`.
    """

    def __init__(self, cursor: Cursor, max_line_length: int) -> None:
        self._cursor = cursor
        self._replay = Replay(cursor)
        self._pairs = SurrogateJoiner()
        self._assembler = LineAssembler(max_line_length, mid_line=cursor.mid_line)
        self.heard = False
        """Whether any text came."""
        self.advanced = False
        """Whether any of it was new."""

    @property
    def chars(self) -> int:
        """Characters read so far."""
        return self._replay.chars

    @property
    def is_short(self) -> bool:
        """Whether the reading has not come as far as the cursor."""
        return self._replay.behind > 0

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


class StreamReading(TextReading):
    """A reading of a stream's messages, which also finds out how they make up the text.

    An agent may send pieces of the text, newlines included, or one line a message without its newline, and
    nothing in the stream tells which. Where it matters (a message follows one that has no newline at its end)
    the whole log, which has no messages, is asked. It is also asked at the very beginning, because a stream
    that begins somewhere in the middle would look like one that begins at the first character.

    While :attr:`question` is set, messages are kept back; :meth:`answer` goes on with them.
    """

    def __init__(self, cursor: Cursor, max_line_length: int) -> None:
        super().__init__(cursor, max_line_length)
        self._waiting: list[str] = []
        self._questions = 0
        self._begun = cursor.chars > 0
        self._open_ended = False
        self._newline_seen = False

    @property
    def question(self) -> int | None:
        """How many characters of the whole log must be known to go on; ``None`` while nothing is in question."""
        if not self._waiting:
            return None
        return self._replay.chars + sum(len(message) + 1 for message in self._waiting)

    def feed(self, messages: list[str]) -> list[str]:
        """Return the new lines that ``messages`` complete, as far as they are not in question.

        :raises ForeignTextError: as :meth:`feed_text`.
        """
        if self._waiting:
            self._waiting += messages
            return []
        if self._begun and self._cursor.joining == "raw":
            return self.feed_text("".join(messages))
        lines: list[str] = []
        for position, message in enumerate(messages):
            if not self._begun or (self._open_ended and self._cursor.joining == "unknown"):
                self._waiting = messages[position:]
                break
            lines += self._message(message)
        return lines

    def answer(self, whole: str | None) -> list[str]:
        """Go on with what is known of the whole log.

        :param whole: its first characters, up to :attr:`question` of them; ``None`` if it can't be read.
        :raises ForeignTextError: if the stream does not begin where the log begins.
        """
        waiting, self._waiting = self._waiting, []
        known = None if whole is None else whole[self._replay.chars :]
        lines: list[str] = []
        if not self._begun:
            self._begin(waiting, known)
        elif not self._decide(waiting, known):
            self._waiting = waiting
        elif self._cursor.joining == "lines":
            lines = self.feed_text("\n")
        return lines if self._waiting else lines + self.feed(waiting)

    def _begin(self, waiting: list[str], known: str | None) -> None:
        self._begun = True
        if known is None:
            return
        raw, separate = _agrees(known, "".join(waiting)), _agrees(known, _as_lines(waiting))
        if not raw and not separate:
            raise ForeignTextError
        if raw != separate and self._cursor.joining == "unknown":
            self._cursor.joining = "raw" if raw else "lines"

    def _decide(self, waiting: list[str], known: str | None) -> bool:
        """Decide whether a newline belongs between the open-ended message before and the waiting ones."""
        raw = known is not None and _agrees(known, "".join(waiting))
        separate = known is not None and _agrees(known, "\n" + _as_lines(waiting))
        if raw and separate:
            self._questions += 1
            if self._questions < _MAX_QUESTIONS and sum(map(len, waiting)) < _MAX_WAITING_CHARS:
                return False
        elif not raw and not separate:
            raw = self._newline_seen
        self._cursor.joining = "raw" if raw else "lines"
        return True

    def _message(self, message: str) -> list[str]:
        if self._cursor.joining == "lines":
            return self.feed_text(message if message.endswith("\n") else f"{message}\n")
        self._newline_seen = self._newline_seen or "\n" in message
        self._open_ended = not message.endswith("\n")
        return self.feed_text(message)


def _as_lines(messages: list[str]) -> str:
    return "".join(message if message.endswith("\n") else f"{message}\n" for message in messages)


def _agrees(known: str, text: str) -> bool:
    length = min(len(known), len(text))
    return known[:length] == text[:length]
