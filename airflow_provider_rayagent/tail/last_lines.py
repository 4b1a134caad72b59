"""Read only the last lines of a long log, instead of all of it for the few lines that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.cursor import Cursor, Replay

MIN_LOG_CHARS = 100_000
"""Shorter logs are read as a whole."""
MIN_LINES = 200
MAX_LINES = 4_000
REQUEST_FACTOR = 8
"""How many times as many lines are requested as the last reading brought, so that the known part is among them."""
PACE_FACTOR = 3
"""The same for the fastest of the readings before, of which half is forgotten with each one that brings lines."""
MAX_CHARS = 2_000_000
"""Characters of the last lines that are held in memory; a line can be long."""
MAX_SKIPPED = 31
"""Readings of the whole log in a row after the position was not found again and again, as in a log of equal lines."""


class LastLines:
    """Finds the forwarded position in the last lines of the log.

    These begin somewhere in the log, so the position is where the last characters of the forwarded part are. If they
    are not there, or more than once, or follow other text, only the whole log can tell: a job may have printed the same
    block again after many other lines.

    :param replay: has read the forwarded part.
    """

    def __init__(self, replay: Replay) -> None:
        self._recent, self._known = replay.recent, replay.known
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
        # What precedes the known characters has to match too, as far as both texts reach back.
        compared = min(found, len(self._recent) - len(self._known))
        if not self._recent.endswith(text[found - compared : found] + self._known):
            return None
        return text[found + len(self._known) :]


class LastLinesPolicy:
    """Decides whether the next reading of the log needs only its last lines, and how many.

    The known characters, and what precedes them, prove the position only if its place is among these lines. A log that
    repeats a long block has them again at the end of the new one, and if that is all that was requested, nothing tells
    the two apart. So the lines have to outnumber the new ones. A block most likely comes as fast as the one before,
    also after a pause, and the pace of that one is remembered.

    :param interval: seconds between two readings.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._replay: Replay | None = None
        self._read_at = 0.0
        self._was_read = False
        self._lines = 0
        self._new_lines = 0
        self._pace = 0
        self._failures = 0
        self._to_skip = 0

    def read(self, now: float, replay: Replay, cursor: Cursor, *, was_whole: bool) -> None:
        """Note that the log was read to its end.

        :param replay: has read the forwarded part.
        :param cursor: the position; a reading that broke off may have advanced it too.
        """
        new_lines = max(cursor.lines - self._lines, 0)
        if not self._was_read:
            # The first reading brings all that was logged before, which does not tell how fast the log grows.
            self._new_lines, self._pace = MAX_LINES // REQUEST_FACTOR, MIN_LINES
        else:
            self._new_lines = new_lines
            if new_lines:
                self._pace = max(new_lines, self._pace // 2)
        self._replay, self._read_at, self._lines, self._was_read = replay, now, cursor.lines, True
        if was_whole:
            self._to_skip = max(self._to_skip - 1, 0)
        else:
            self._failures = 0

    def failed(self) -> None:
        """Note that the position was not found in the last lines: the next reading is one of the whole log."""
        self._replay = None
        self._failures += 1
        self._to_skip = min(2**self._failures - 1, MAX_SKIPPED)

    def next(self, now: float, cursor: Cursor) -> tuple[Replay, int] | None:
        """Return what to continue from and the number of lines to read; ``None``: read the whole log.

        A log that grows fast, or was not read for long, is read as a whole.
        """
        replay, more = self._replay, REQUEST_FACTOR * self._new_lines
        if replay is None or self._to_skip or more > MAX_LINES or cursor.chars < MIN_LOG_CHARS:
            return None
        more = max(more, min(PACE_FACTOR * self._pace, MAX_LINES), MIN_LINES)
        more *= max(int((now - self._read_at) / self._interval), 1)
        if more > MAX_LINES or not replay.covers(cursor):
            return None
        # The line that the known characters begin in, and those after it.
        return replay.continued(), replay.known.count("\n") + 1 + more
