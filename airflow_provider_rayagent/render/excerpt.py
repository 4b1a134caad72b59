"""Limit a long log to its first and its last lines."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Excerpt(Generic[T]):
    """Show the first ``max_lines`` lines; of the rest, keep the last ``tail_lines``.

    :param max_lines: ``None``: no limit.
    :param shown: lines already shown in the same task log.
    """

    def __init__(self, max_lines: int | None, tail_lines: int, *, shown: int = 0) -> None:
        self._max_lines = max_lines
        self._last: deque[T] = deque(maxlen=tail_lines)
        self.shown = shown
        """Number of lines shown."""
        self.held = 0
        """Number of lines held back."""

    @property
    def is_full(self) -> bool:
        """Whether further lines are held back."""
        return self._max_lines is not None and self.shown >= self._max_lines

    def add(self, line: T) -> bool:
        """Add a line; return whether to show it now. If not, it may still be among the last lines."""
        if self.is_full:
            self.held += 1
            self._last.append(line)
            return False
        self.shown += 1
        return True

    def take_rest(self) -> tuple[int, list[T]]:
        """Return the number of lines that are never shown, and the last lines, which are to be shown now."""
        last = list(self._last)
        left_out = self.held - len(last)
        self._last.clear()
        self.held = 0
        return left_out, last
