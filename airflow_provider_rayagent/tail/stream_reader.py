"""Read the messages of a log stream, and detect whether they are chunks of text or lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.cursor import ForeignTextError
from airflow_provider_rayagent.tail.lines import SurrogateJoiner
from airflow_provider_rayagent.tail.text_reader import TextReader
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.text.redaction import Redactor

# Comparisons that decide nothing. Each one reads the log from its start to the end of the excerpt.
_MAX_COMPARISONS = 20
_MAX_PENDING_CHARS = 1_000_000


class LogExcerpt:
    """Extracts a part of the whole log, to compare a stream's messages with. The rest of the log is discarded.

    :param skip: number of characters before the excerpt.
    :param length: number of characters in the excerpt.
    """

    def __init__(self, skip: int, length: int) -> None:
        self._pairs = SurrogateJoiner()
        self._skip = skip
        self._missing = length
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """The part of the excerpt received so far."""
        return "".join(self._parts)

    def feed(self, text: str) -> bool:
        """Process more of the whole log. Return whether the excerpt is complete."""
        text = self._pairs.feed(text)
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        part = text[skipped : skipped + self._missing]
        self._missing -= len(part)
        self._parts.append(part)
        return self._missing == 0


class StreamReader(TextReader):
    """Reads the messages of a stream, and detects whether they are chunks of text or lines.

    An agent may send chunks of the text with their newlines, or one line per message without its newline. A message
    without a newline can be either, so messages are compared with the whole log:

    - at the start of the first stream, since one that starts in the middle of the log would otherwise be taken for one
      that starts at the first character;
    - when a second message follows the first, unless the mode is known by then.

    While :attr:`needs_comparison` is true, messages are held back; :meth:`resume` processes them.
    """

    def __init__(
        self, cursor: Cursor, max_line_length: int, *, redraws: bool = False, redact: Redactor = NO_SECRETS
    ) -> None:
        super().__init__(cursor, max_line_length, redraws=redraws, redact=redact)
        self._pending: list[str] = []
        self._pending_chars = 0
        self._comparisons = 0
        self._started = cursor.chars > 0
        self._after_message = False
        self._newline_seen = False

    @property
    def needs_comparison(self) -> bool:
        """Whether messages are held back until :meth:`resume`. Empty messages alone do not need a comparison yet."""
        return self._pending_chars > len(self._pending) or self.is_full

    @property
    def is_full(self) -> bool:
        """Whether so much is held back that no more should be read."""
        return self._pending_chars >= _MAX_PENDING_CHARS

    def next_excerpt(self) -> LogExcerpt:
        """Return the excerpt of the whole log that :meth:`resume` needs."""
        # For the messages as lines: with a newline after each, and one before the first (see _detect_joining()).
        return LogExcerpt(self._replay.chars, self._pending_chars + 1)

    def feed(self, messages: list[str]) -> list[str]:
        """Return the new lines that ``messages`` complete; messages that need a comparison are held back.

        :raises ForeignTextError: see :meth:`feed_text`.
        """
        if self._pending:
            self._hold_back(messages)
            return []
        if self._started and self._cursor.joining == "raw":
            return self.feed_text("".join(messages))
        if self._started and self._cursor.joining == "lines":
            # Otherwise, chunks that end between blank lines would pass for lines, with a blank line too many.
            if _have_newlines(messages):
                raise ForeignTextError
            return self.feed_text(_as_lines(messages))
        lines: list[str] = []
        for position, message in enumerate(messages):
            if not self._started or self._after_message:
                self._hold_back(messages[position:])
                break
            self._newline_seen = self._newline_seen or _have_newlines([message])
            self._after_message = True
            lines += self.feed_text(message)
        return lines

    def resume(self, excerpt: str | None) -> list[str]:
        """Process the messages that were held back, and return the new lines.

        :param excerpt: text of :meth:`next_excerpt`; ``None`` if the whole log is unavailable.
        :raises ForeignTextError: if the messages differ from the log.
        """
        pending, self._pending, self._pending_chars = self._pending, [], 0
        started = self._started
        decided = self._detect_joining(pending, excerpt) if started else self._check_start(pending, excerpt)
        if not decided:
            self._hold_back(pending)
            return []
        self._started = True
        # The first message was read before it was known that a newline follows it.
        lines = self.feed_text("\n") if started and self._cursor.joining == "lines" else []
        return lines + self.feed(pending)

    def flush(self) -> list[str]:
        """Return the remaining lines. Messages that were held back are processed without a comparison."""
        lines: list[str] = []
        while self._pending:
            lines += self.resume(None)
        return lines + super().flush()

    def _hold_back(self, messages: list[str]) -> None:
        self._pending += messages
        self._pending_chars += sum(map(len, messages)) + len(messages)

    def _check_start(self, pending: list[str], excerpt: str | None) -> bool:
        """Check that the messages are the start of the log. Return whether that is decided."""
        if excerpt is None:
            return True
        if not (excerpt and self._pairs.peek("".join(pending))) and self._may_compare_again():
            return False
        raw, separate = self._matches(excerpt, "".join(pending)), self._matches(excerpt, _as_lines(pending))
        if not raw and (not separate or _have_newlines(pending)):
            raise ForeignTextError
        if raw != separate and self._cursor.joining == "unknown":
            self._cursor.joining = "raw" if raw else "lines"
        return True

    def _detect_joining(self, pending: list[str], excerpt: str | None) -> bool:
        """Detect whether a newline belongs between the previous message and these. Return whether that is decided."""
        newline_seen = self._newline_seen or _have_newlines(pending)
        if excerpt is None:
            # A guess, since the log is unavailable: an agent that sends lines sends them without newlines.
            raw = newline_seen
        else:
            raw = self._matches(excerpt, "".join(pending))
            separate = not newline_seen and self._matches(excerpt, "\n" + _as_lines(pending))
            if not raw and not separate:
                raise ForeignTextError
            if separate and (raw or len(excerpt) == 1) and self._may_compare_again():
                return False
        self._cursor.joining = "raw" if raw else "lines"
        return True

    def _may_compare_again(self) -> bool:
        self._comparisons += 1
        return self._comparisons < _MAX_COMPARISONS and not self.is_full

    def _matches(self, excerpt: str, text: str) -> bool:
        ends_with_high_surrogate = "\ud800" <= text[-1:] <= "\udbff"
        text = self._pairs.peek(text)
        length = min(len(excerpt), len(text))
        # The other half of a surrogate pair at the end is unknown, but it is not a newline.
        return excerpt[:length] == text[:length] and not (
            ends_with_high_surrogate and excerpt[length : length + 1] == "\n"
        )


def _have_newlines(messages: list[str]) -> bool:
    return any("\n" in message for message in messages)


def _as_lines(messages: list[str]) -> str:
    return "".join(f"{message}\n" for message in messages)
