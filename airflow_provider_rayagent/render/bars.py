"""Progress bars whose every state is a line of its own.

Ray gives a job's log with ``\\r`` turned into a newline: a bar that is drawn a thousand times is a thousand lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HELD = 32
"""Lines that are held back at most."""

BAR = re.compile(
    r"(?P<name>[^|%]{0,200}?) {0,4}(?P<percent>\d{1,3})%\|[^|]{0,400}\| {0,20}[^ |]{1,60} "
    r"\[\d[\d:]{1,12}<[^\[\]]{1,120}\]"
)
"""A state of a bar, at a line's beginning; look for ``%|`` first."""
_NOTHING = re.compile(r"(?: |\x1b\[A)*")
_NOTHING_OF_A_PROCESS = re.compile(r"(?:\x1b\[\d+m)?\((?:[^\n]{1,200}? )?pid=\d+[^()\n]{0,60}\)(?:\x1b\[0m)? *")


class NumberedLine(NamedTuple):
    """A line of the job.

    :param number: where it stands in the log, as the caller counts.
    :param level: a number of :mod:`logging`.
    """

    number: int
    level: int
    text: str


class Bars:
    """Leave out those states of ``tqdm``'s bars that another state follows within ``interval`` seconds.

    The first state, the complete one and the last one before any other line are always let through; of bars that are
    drawn in turn all are, when one is. Empty lines between two states, which come from the same ``\\r``, are left out.

    :param interval: ``None``: everything is let through.
    """

    def __init__(self, interval: float | None) -> None:
        self._interval = interval
        self._states: dict[str, NumberedLine] = {}
        self._empty: list[NumberedLine] = []
        self._due: dict[str, float] = {}
        self._among_bars = False

    @property
    def first_held(self) -> int | None:
        """The number of the first line that is held back."""
        return min((line.number for line in (*self._states.values(), *self._empty)), default=None)

    def feed(self, line: NumberedLine, now: float) -> Iterator[NumberedLine]:
        """Yield the lines that are to be shown now that ``line`` has come.

        :param now: seconds on a monotonic clock.
        """
        found = BAR.match(line.text) if "%|" in line.text else None
        if self._interval is None:
            yield line
        elif found is not None and _NOTHING.fullmatch(line.text, found.end()):
            self._among_bars = True
            self._empty.clear()
            yield from self._state(found["name"], line, now, self._interval, complete=found["percent"] == "100")
        elif self._among_bars and len(self._empty) < MAX_HELD and _is_empty(line.text):
            self._empty.append(line)
        else:
            yield from self.flush()
            yield line

    def overdue(self, now: float) -> list[NumberedLine]:
        """Return what is held back, in order, if a state of it has waited long enough."""
        if self._interval is None or not any(now >= self._due.get(name, now) for name in self._states):
            return []
        self._due.update(dict.fromkeys(self._states, now + self._interval))
        return self._release()

    def flush(self) -> list[NumberedLine]:
        """Return what is held back, in order."""
        self._among_bars = False
        return self._release()

    def _state(
        self, name: str, line: NumberedLine, now: float, interval: float, *, complete: bool
    ) -> Iterator[NumberedLine]:
        self._states.pop(name, None)
        if len(self._due) >= MAX_HELD and name not in self._due:
            yield from self._release()
            self._due.clear()
        if complete or now >= self._due.get(name, now):
            self._due[name] = now + interval
            yield from self._release()
            yield line
        else:
            self._states[name] = line

    def _release(self) -> list[NumberedLine]:
        if not self._states and not self._empty:
            return []
        held = sorted((*self._states.values(), *self._empty))
        self._states.clear()
        self._empty.clear()
        return held


def _is_empty(text: str) -> bool:
    return bool(_NOTHING.fullmatch(text) or _NOTHING_OF_A_PROCESS.fullmatch(text))
