"""Read only the last lines of a long log, instead of all of it for the few lines that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.cursor import Cursor, Replay

MIN_LOG_CHARS = 100_000
"""Shorter logs are read as a whole."""
MIN_LINES = 200
MAX_LINES = 4_000
RESERVE = 8
"""How many times as many lines are requested as the last reading brought, so that the known part is among them."""
MAX_CHARS = 2_000_000
"""Characters of the last lines that are held in memory; a line can be long."""
MAX_SKIPPED = 31
"""Readings of the whole log in a row after the position was not found again and again, as in a log of equal lines."""


class LastLines:
    """Finds the forwarded position in the last lines of the log.

    These begin somewhere in the log, so the position is where the last characters of the forwarded part are. If they
    are not there, or more than once, only the whole log can tell.

    :param known: the last characters of the forwarded part.
    """

    def __init__(self, known: str) -> None:
        self._known = known
        self._parts: list[str] = []
        self._chars = 0

    def feed(self, text: str) -> bool:
        """Collect more of the last lines. Return whether they are not too long."""
        self._parts.append(text)
        self._chars += len(text)
        return self._chars <= MAX_CHARS

    def new_text(self) -> str | None:
        """Return the text after the forwarded part; ``None`` if its place is not certain."""
        text = "".join(self._parts)
        found = text.find(self._known)
        if found < 0 or text.find(self._known, found + 1) >= 0:
            return None
        return text[found + len(self._known) :]


class LastLinesPolicy:
    """Decides whether the next reading of the log needs only its last lines."""

    def __init__(self) -> None:
        self._replay: Replay | None = None
        self._was_read = False
        self._new_lines = 0
        self._failures = 0
        self._to_skip = 0

    def read(self, replay: Replay, new_lines: int, *, was_whole: bool) -> None:
        """Note that the log was read to its end.

        :param replay: has read the forwarded part.
        :param new_lines: number of lines that the reading brought.
        """
        # The first reading brings all that was logged before, which does not tell how fast the log grows.
        self._new_lines = new_lines if self._was_read else MAX_LINES // RESERVE
        self._replay, self._was_read = replay, True
        if was_whole:
            self._to_skip = max(self._to_skip - 1, 0)
        else:
            self._failures = 0

    def failed(self) -> None:
        """Note that the position was not found in the last lines: the next reading is one of the whole log."""
        self._replay = None
        self._failures += 1
        self._to_skip = min(2**self._failures - 1, MAX_SKIPPED)

    def next(self, cursor: Cursor) -> tuple[Replay, int] | None:
        """Return what to continue from and the number of lines to read; ``None``: read the whole log.

        A log that grows fast is read as a whole: more lines than were requested may be new, and in a log that repeats
        itself the known characters would be found at the wrong place.
        """
        replay, more = self._replay, max(RESERVE * self._new_lines, MIN_LINES)
        if replay is None or self._to_skip or more > MAX_LINES or cursor.chars < MIN_LOG_CHARS:
            return None
        # The line that the known characters begin in, and those after it.
        known = replay.known.count("\n") + 1
        return (replay.continued(), known + more) if replay.covers(cursor) else None
