"""Build the records of the task log: levels, colors, progress bars and limits are applied here."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.render.bars import Bars, NumberedLine
from airflow_provider_rayagent.render.excerpt import Excerpt
from airflow_provider_rayagent.render.levels import LevelFinder
from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MAX_NOTICE = 1_000
"""Characters of a notice, which may quote the agent."""
REPORTED_PROGRESS_SECONDS = 60.0
"""Between two records of the progress that a job reports."""


@dataclass(frozen=True)
class DisplaySettings:
    """How the task log shows a job's lines.

    :param levels: detect the level of each line; otherwise all lines are INFO.
    :param colors: keep terminal colors.
    :param progress_interval: seconds between two states of a progress bar; ``None``: show all states. For bars that
        are redrawn with ``\\r`` the tail needs the same value: ``TailSettings.progress_interval``.
    :param max_lines: number of lines to show as they arrive; ``None``: all.
    :param tail_lines: number of last lines to show at the end if the log has more than ``max_lines``.
    """

    levels: bool = True
    colors: bool = True
    progress_interval: float | None = 5.0
    max_lines: int | None = None
    tail_lines: int = 200

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> DisplaySettings:
        """Return the settings in a trigger's arguments; earlier versions spelled ``colors`` as ``colours``."""
        fields = dict(value or {})
        if "colours" in fields:
            fields["colors"] = fields.pop("colours")
        return cls(**fields)


class Record(NamedTuple):
    """One record of the task log.

    :param level: a level of :mod:`logging`, at least INFO, since Airflow's default level drops what is below.
    :param text: one line.
    :param from_job: whether it is the job's output (a line or progress) or a message of this provider.
    :param number: number of the line in the log, from 0 on; ``None`` if it is not a line of it.
    """

    level: int
    text: str
    from_job: bool = False
    number: int | None = None


class RecordBuilder:
    """Turn the lines and notices of one job into records of the task log.

    The input must be redacted. Some lines are held back: the last lines of an excerpt, the latest state of a bar. So
    that a successor shows them, save :meth:`position`, not the tail's cursor alone.

    :param position: from :meth:`position` of the predecessor, to continue where it stopped.
    """

    def __init__(self, settings: DisplaySettings | None = None, position: LogPosition | None = None) -> None:
        self._settings = settings or DisplaySettings()
        saved = position or Cursor().to_json()
        self._levels = LevelFinder()
        self._bars = Bars(self._settings.progress_interval)
        # `shown` and `again` are absent if the position is that of a cursor alone.
        self._excerpt: Excerpt[NumberedLine] = Excerpt(
            self._settings.max_lines, self._settings.tail_lines, shown=int(saved.get("shown", 0))
        )
        self._skip = int(saved.get("again", 0))
        self._limit_announced = self._excerpt.shown > 0 and self._excerpt.is_full
        # The last progress that was not shown, and when the next one may be.
        self._progress: str | None = None
        self._progress_due = 0.0
        self._lines = 0
        self._records: list[Record] = []
        self._first_hidden: int | None = None
        self._base = Cursor().to_json()
        self._base.update(saved)
        self._base_lines = 0

    def add_line(self, text: str, now: float) -> None:
        """Add a line of the job.

        :param now: seconds on a monotonic clock, here and below.
        """
        # Also of a line that is skipped: it may begin a traceback, whose level the lines after it have.
        level = self._levels.level_of(text) if self._settings.levels else None
        if self._skip:
            self._skip -= 1
        else:
            self._show(self._bars.feed(NumberedLine(self._lines, level or logging.INFO, text), now))
        self._lines += 1

    def add_progress(self, text: str) -> None:
        """Add the current state of a line that the job redraws."""
        if not self._excerpt.is_full:
            self._records.append(self._job_record(logging.INFO, text))

    def add_reported_progress(self, text: str, now: float) -> None:
        """Add a line in which the job reports its progress: at most one a minute is shown, and the last one.

        :param text: what to show for it.
        """
        if self._skip:
            self._skip -= 1
        else:
            self._progress = text
        self._lines += 1
        self._show_progress(now)

    def add_notice(self, text: str) -> None:
        """Add a notice about the log."""
        # First what is held back, so that the notice comes after the lines that precede it.
        self._show(self._bars.flush())
        self._records.append(Record(logging.WARNING, sanitize(text, length=MAX_NOTICE)))

    def log_was_rewritten(self) -> None:
        """Reset: the lines that follow belong to a new log, so none of them was shown before."""
        # A successor cannot read the lines of the old log that are held back.
        self._show(self._bars.flush())
        self._skip = 0
        self._base, self._base_lines = Cursor().to_json(), self._lines
        self._first_hidden = self._lines if self._first_hidden is not None else None

    def add_message(self, level: int, text: str, now: float) -> None:
        """Add a message about the job."""
        self._show(self._bars.overdue(now))
        self._records.append(Record(level, text))

    def take(self, now: float) -> list[Record]:
        """Return the records that are ready, including bars whose interval has passed."""
        self._show(self._bars.overdue(now))
        self._show_progress(now)
        records, self._records = self._records, []
        return records

    def finish(self) -> list[Record]:
        """Return the records of all lines held back. Call it once, when the job has ended or the task gives up."""
        self._show(self._bars.flush())
        self._show_progress(math.inf)
        left_out, last = self._excerpt.take_rest()
        if left_out:
            text = f"{left_out:,} lines of the job's log are not shown here (max_lines)"
            text += f"; its last {len(last):,} lines follow." if last else "."
            self._records.append(Record(logging.INFO, text))
        records, self._records = self._records, []
        return records + [self._job_record(line.level, line.text, line.number) for line in last]

    def position(self, cursor: Cursor) -> LogPosition:
        """Return the position from which another builder and its tail can continue, as JSON primitives.

        It includes a cursor for :meth:`Cursor.from_json`. While lines are held back, this cursor is older than
        ``cursor``: the successor reads these lines again, and skips those that were shown by their number (``again``).

        :param cursor: the tail's cursor; all lines before it must have been added.
        """
        held = [number for number in (self._bars.first_held, self._first_hidden) if number is not None]
        settled = min(held, default=self._lines)
        # Otherwise the old cursor stays, from which `again` counts.
        if not held and not self._skip:
            self._base, self._base_lines = cursor.to_json(), self._lines
        position = self._base.copy()
        position["shown"] = self._excerpt.shown
        position["again"] = settled - self._base_lines + self._skip
        return position

    def _show(self, lines: Iterable[NumberedLine]) -> None:
        for line in lines:
            if self._excerpt.add(line):
                self._records.append(self._job_record(line.level, line.text, line.number))
                continue
            if self._first_hidden is None:
                self._first_hidden = line.number
            if not self._limit_announced:
                self._limit_announced = True
                text = f"Showing only the first {self._excerpt.shown:,} lines of the job's log (max_lines)"
                last = self._settings.tail_lines
                text += f"; the last {last:,} follow when the job has ended." if last else "."
                self._records.append(Record(logging.INFO, text))

    def _show_progress(self, now: float) -> None:
        if self._progress is not None and now >= self._progress_due:
            self._records.append(Record(logging.INFO, self._progress))
            interval = self._settings.progress_interval
            # As for bars, ``None`` shows every state.
            self._progress_due = now if interval is None else now + max(interval, REPORTED_PROGRESS_SECONDS)
            self._progress = None

    def _job_record(self, level: int, text: str, number: int | None = None) -> Record:
        text = sanitize(text, colors=self._settings.colors)
        return Record(max(level, logging.INFO), text, from_job=True, number=number)
