"""A reading of a stream's messages, which also finds out how they make up the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.cursor import ForeignTextError
from airflow_provider_rayagent.tail.lines import SurrogateJoiner
from airflow_provider_rayagent.tail.reading import TextReading
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.text.redaction import Redactor

_MAX_QUESTIONS = 20
_MAX_WAITING_CHARS = 1_000_000


class Stretch:
    """A stretch of the whole log, to compare a stream's messages with; nothing else of the log is kept.

    :param skip: characters before it.
    :param length: characters of it.
    """

    def __init__(self, skip: int, length: int) -> None:
        self._pairs = SurrogateJoiner()
        self._skip = skip
        self._missing = length
        self._parts: list[str] = []

    @property
    def known(self) -> str:
        """What came of it."""
        return "".join(self._parts)

    def feed(self, text: str) -> bool:
        """Take more of the whole log, and return whether all of the stretch is known now."""
        text = self._pairs.feed(text)
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        part = text[skipped : skipped + self._missing]
        self._missing -= len(part)
        self._parts.append(part)
        return self._missing == 0


class StreamReading(TextReading):
    """A reading of a stream's messages, which also finds out how they make up the text.

    An agent may send pieces of the text, newlines included, or one line a message without its newline, and
    nothing in the stream tells which. The whole log, which has no messages, is asked: where a second message
    follows the first, if it is not known by then. It is also asked at the very beginning, because a stream
    that begins somewhere in the middle would look like one that begins at the first character.

    While :attr:`in_question`, messages are kept back; :meth:`answer` goes on with them.
    """

    def __init__(
        self, cursor: Cursor, max_line_length: int, *, redraws: bool = False, redact: Redactor = NO_SECRETS
    ) -> None:
        super().__init__(cursor, max_line_length, redraws=redraws, redact=redact)
        self._waiting: list[str] = []
        self._waiting_chars = 0
        self._questions = 0
        self._begun = cursor.chars > 0
        self._after_message = False
        self._newline_seen = False

    @property
    def in_question(self) -> bool:
        """Whether the whole log must be asked to go on. Messages without a character in them can wait for more."""
        return self._waiting_chars > len(self._waiting) or self.is_full

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be read."""
        return self._waiting_chars >= _MAX_WAITING_CHARS

    def ask(self) -> Stretch:
        """Return what of the whole log must be known to go on."""
        return Stretch(self._replay.chars, self._waiting_chars + 1)

    def feed(self, messages: list[str]) -> list[str]:
        """Return the new lines that ``messages`` complete, as far as they are not in question.

        :raises ForeignTextError: as :meth:`feed_text`.
        """
        if self._waiting:
            self._wait(messages)
            return []
        if self._begun and self._cursor.joining != "unknown":
            return self.feed_text("".join(messages) if self._cursor.joining == "raw" else _as_lines(messages))
        lines: list[str] = []
        for position, message in enumerate(messages):
            if not self._begun or self._after_message:
                self._wait(messages[position:])
                break
            self._newline_seen = self._newline_seen or "\n" in message
            self._after_message = True
            lines += self.feed_text(message)
        return lines

    def answer(self, known: str | None) -> list[str]:
        """Go on with what is known of the whole log.

        :param known: what came of the stretch that :meth:`ask` gave; ``None`` if the whole log can't be read.
        :raises ForeignTextError: if the stream does not bring the log.
        """
        waiting, self._waiting, self._waiting_chars = self._waiting, [], 0
        begun = self._begun
        decided = self._decide(waiting, known) if begun else self._begin(waiting, known)
        if not decided:
            self._wait(waiting)
            return []
        self._begun = True
        lines = self.feed_text("\n") if begun and self._cursor.joining == "lines" else []
        return lines + self.feed(waiting)

    def flush(self) -> list[str]:
        """Return the last lines: what is still in question is decided without the whole log."""
        lines: list[str] = []
        while self._waiting:
            lines += self.answer(None)
        return lines + super().flush()

    def _wait(self, messages: list[str]) -> None:
        self._waiting += messages
        self._waiting_chars += sum(map(len, messages)) + len(messages)

    def _begin(self, waiting: list[str], known: str | None) -> bool:
        """Find out whether the waiting messages are the log's beginning."""
        if known is None:
            return True
        if not (known and self._pairs.peek("".join(waiting))) and self._may_ask_again():
            return False
        raw, separate = self._agrees(known, "".join(waiting)), self._agrees(known, _as_lines(waiting))
        if not raw and not separate:
            raise ForeignTextError
        if raw != separate and self._cursor.joining == "unknown":
            self._cursor.joining = "raw" if raw else "lines"
        return True

    def _decide(self, waiting: list[str], known: str | None) -> bool:
        """Decide whether a newline belongs between the message before and the waiting ones."""
        if known is None:
            raw = self._newline_seen or any("\n" in message for message in waiting)
        else:
            raw = self._agrees(known, "".join(waiting))
            separate = self._agrees(known, "\n" + _as_lines(waiting))
            if not raw and not separate:
                raise ForeignTextError
            if separate and (raw or len(known) == 1) and self._may_ask_again():
                return False
        self._cursor.joining = "raw" if raw else "lines"
        return True

    def _may_ask_again(self) -> bool:
        self._questions += 1
        return self._questions < _MAX_QUESTIONS and not self.is_full

    def _agrees(self, known: str, text: str) -> bool:
        ends_in_half = "\ud800" <= text[-1:] <= "\udbff"
        text = self._pairs.peek(text)
        length = min(len(known), len(text))
        # What becomes of a half at the end is open, but a newline it is not.
        return known[:length] == text[:length] and not (ends_in_half and known[length : length + 1] == "\n")


def _as_lines(messages: list[str]) -> str:
    return "".join(f"{message}\n" for message in messages)
