"""The beginning and the end of a log that is too long to be shown whole."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Excerpt(Generic[T]):
    """Show the first ``max_lines`` lines, hold the others back, and keep the last ``tail_lines`` of them.

    :param max_lines: ``None``: all are shown.
    :param shown: lines that were shown before this began, in the same task log.
    """

    def __init__(self, max_lines: int | None, tail_lines: int, *, shown: int = 0) -> None:
        self._max_lines = max_lines
        self._last: deque[T] = deque(maxlen=tail_lines)
        self.shown = shown
        """Lines that were shown."""
        self.held = 0
        """Lines that were held back."""

    @property
    def is_full(self) -> bool:
        """Whether further lines are held back."""
        return self._max_lines is not None and self.shown >= self._max_lines

    def takes(self, line: T) -> bool:
        """Count a line, and return whether it is shown now; if not, it may be one of the last."""
        if self.is_full:
            self.held += 1
            self._last.append(line)
            return False
        self.shown += 1
        return True

    def rest(self) -> tuple[int, list[T]]:
        """Return how many of the lines that were held back are left out for good, and the last ones, to be shown."""
        last = list(self._last)
        left_out = self.held - len(last)
        self._last.clear()
        self.held = 0
        return left_out, last
