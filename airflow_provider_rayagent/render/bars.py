"""Thin out progress bars.

Ray turns ``\\r`` in a job's log into a newline, so a bar that is redrawn a thousand times is a thousand lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HELD = 32
"""The most lines that are held back."""

BAR = re.compile(
    r"(?P<name>[^|%]{0,200}?) {0,4}(?P<percent>\d{1,3})%\|[^|]{0,400}\| {0,20}[^ |]{1,60} "
    r"\[\d[\d:]{1,12}<[^\[\]]{1,120}\]"
)
"""A state of a ``tqdm`` bar at the start of a line; check for ``%|`` first, which is cheaper."""
# With several bars, tqdm moves the cursor up with ESC[A (`tqdm.moveto`).
_BLANK = re.compile(r"(?: |\x1b\[A)*")
# Ray puts the process before each line of a worker, also before an empty one.
_BLANK_FROM_PROCESS = re.compile(r"(?:\x1b\[\d+m)?\((?:[^\n]{1,200}? )?pid=\d+[^()\n]{0,60}\)(?:\x1b\[0m)? *")


class NumberedLine(NamedTuple):
    """A line of the job's log.

    :param number: the line's number, counted by the caller.
    :param level: a level of :mod:`logging`.
    """

    number: int
    level: int
    text: str


class Bars:
    """Drop the states of ``tqdm`` bars that another state follows within ``interval`` seconds.

    A bar's first state, its complete state and its last state before any other line always pass. When several bars are
    drawn in turn and one passes, all pass. Blank lines between two states, a product of the same ``\\r``, are dropped.

    :param interval: seconds; ``None``: nothing is dropped.
    """

    def __init__(self, interval: float | None) -> None:
        self._interval = interval
        self._states: dict[str, NumberedLine] = {}
        self._blank_lines: list[NumberedLine] = []
        self._due: dict[str, float] = {}
        self._among_bars = False

    @property
    def first_held(self) -> int | None:
        """The number of the first line that is held back, ``None`` if none is."""
        return min((line.number for line in (*self._states.values(), *self._blank_lines)), default=None)

    def feed(self, line: NumberedLine, now: float) -> Iterator[NumberedLine]:
        """Add a line; yield the lines to show now.

        :param now: seconds on a monotonic clock.
        """
        found = BAR.match(line.text) if "%|" in line.text else None
        if self._interval is None:
            yield line
        elif found is not None and _BLANK.fullmatch(line.text, found.end()):
            self._among_bars = True
            self._blank_lines.clear()
            yield from self._add_state(found["name"], line, now, self._interval, complete=found["percent"] == "100")
        elif self._among_bars and len(self._blank_lines) < MAX_HELD and _is_blank(line.text):
            self._blank_lines.append(line)
        else:
            yield from self.flush()
            yield line

    def overdue(self, now: float) -> list[NumberedLine]:
        """Return the lines held back, in order, if a bar among them has waited for ``interval`` seconds."""
        if self._interval is None or not any(now >= self._due.get(name, now) for name in self._states):
            return []
        self._due.update(dict.fromkeys(self._states, now + self._interval))
        return self._release()

    def flush(self) -> list[NumberedLine]:
        """Return the lines held back, in order."""
        self._among_bars = False
        return self._release()

    def _add_state(
        self, name: str, line: NumberedLine, now: float, interval: float, *, complete: bool
    ) -> Iterator[NumberedLine]:
        self._states.pop(name, None)
        # Names of bars come from the job, which may use any number of them.
        if len(self._due) >= MAX_HELD and name not in self._due:
            yield from self._release()
            self._due.clear()
        if complete or now >= self._due.get(name, now):
            self._due[name] = now + interval
            # All bars, since what is held is older than this line.
            yield from self._release()
            yield line
        else:
            self._states[name] = line

    def _release(self) -> list[NumberedLine]:
        if not self._states and not self._blank_lines:
            return []
        # By their number, the first field.
        held = sorted((*self._states.values(), *self._blank_lines))
        self._states.clear()
        self._blank_lines.clear()
        return held


def _is_blank(text: str) -> bool:
    return bool(_BLANK.fullmatch(text) or _BLANK_FROM_PROCESS.fullmatch(text))
