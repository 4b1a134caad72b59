"""Build the records of the task log: levels, colors, progress bars and limits are applied here."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.render.bars import Bars, NumberedLine
from airflow_provider_rayagent.render.levels import LevelFinder
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition

REPORTED_PROGRESS_SECONDS = 60.0
"""Between two records of the progress that a job reports."""


@dataclass(frozen=True)
class DisplaySettings:
    """How the task log shows a job's lines. A trigger takes it as JSON, the argument ``display``.

    .. code-block:: python

        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

        trigger = RayAgentJobTrigger(job_id="train-20260131", display={"colors": False, "max_lines": 1000})

    :param levels: detect the level of each line; otherwise all lines are INFO.
    :param colors: keep terminal colors.
    :param progress_interval: seconds between two states of a progress bar; ``None``: show all states. For bars that
        are redrawn with ``\\r`` the tail needs the same value: ``TailSettings.progress_interval``.
    :param max_lines: number of lines to show; ``None``: all.
    :param markers: show the lines that the job prints for Airflow alone.
    """

    levels: bool = True
    colors: bool = True
    progress_interval: float | None = 5.0
    max_lines: int | None = None
    markers: bool = False


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

    The input must be redacted. The latest state of a progress bar is held back: :meth:`flush` it before another builder
    goes on in the log, which does not see it.

    :param position: from :meth:`position` of the predecessor, to continue where it stopped.
    """

    def __init__(self, settings: DisplaySettings | None = None, position: LogPosition | None = None) -> None:
        self._settings = settings or DisplaySettings()
        saved: Mapping[str, Any] = position or {}
        self._levels = LevelFinder()
        self._bars = Bars(self._settings.progress_interval)
        self._lines = int(saved.get("lines", 0))
        # Absent if the position is that of a cursor alone.
        self._shown = int(saved.get("shown", 0))
        self._hides_lines = self._is_full and self._lines > self._shown
        # The last progress that was not shown, and when the next one may be.
        self._progress: str | None = None
        self._progress_due = 0.0
        self._records: list[Record] = []

    @property
    def hides_lines(self) -> bool:
        """Whether there are more lines than are shown."""
        return self._hides_lines

    def add_line(self, text: str, now: float) -> None:
        """Add a line of the job.

        :param now: seconds on a monotonic clock, here and below.
        """
        level = self._levels.level_of(text) if self._settings.levels else None
        self._show(self._bars.feed(NumberedLine(self._lines, level or logging.INFO, text), now))
        self._lines += 1

    def add_progress(self, text: str) -> None:
        """Add the current state of a line that the job redraws."""
        if not self._is_full:
            self._records.append(self._job_record(logging.INFO, text))

    def add_reported_progress(self, text: str, now: float) -> None:
        """Add the progress that the job reports: at most one a minute is shown, and the last one."""
        self._progress = text
        self._show_progress(now)

    def hide_line(self) -> None:
        """Count a line of the job that is not shown."""
        self._lines += 1

    def add_notice(self, text: str, level: int = logging.WARNING) -> None:
        """Add a notice about the log or the status."""
        # First what is held back, so that the notice comes after the lines that precede it.
        self._show(self._bars.flush())
        self._records.append(Record(level, sanitize(text, length=MAX_NOTICE)))

    def log_was_rewritten(self) -> None:
        """Reset: the lines that follow belong to a new log."""
        self._show(self._bars.flush())
        self._lines = 0

    def add_message(self, level: int, text: str, now: float, *, is_last: bool = False) -> None:
        """Add a message about the job.

        :param is_last: whether all lines of the job precede it.
        """
        self._show(self._bars.flush() if is_last else self._bars.overdue(now))
        if is_last:
            self._show_progress(math.inf)
        self._records.append(Record(level, text))

    def take(self, now: float) -> list[Record]:
        """Return the records that are ready, including bars whose interval has passed."""
        self._show(self._bars.overdue(now))
        self._show_progress(now)
        records, self._records = self._records, []
        return records

    def flush(self) -> list[Record]:
        """Return the records of all lines held back."""
        self._show(self._bars.flush())
        self._show_progress(math.inf)
        records, self._records = self._records, []
        return records

    def finish(self) -> list[Record]:
        """Return the last records. Call it once, when the job has ended or the task gives up."""
        records = self.flush()
        if self._hides_lines:
            text = (
                f"Only the first {self._shown:,} lines of the job's log are shown here (max_lines). It has "
                f"{self._lines:,}; the Ray page has all of them."
            )
            records.append(Record(logging.INFO, text))
        return records

    def position(self, cursor: Cursor) -> LogPosition:
        """Return the position from which another builder and its tail can continue, as JSON primitives.

        :param cursor: the tail's cursor; all lines before it must have been added.
        """
        return {**cursor.to_json(), "shown": self._shown}

    @property
    def _is_full(self) -> bool:
        return self._settings.max_lines is not None and self._shown >= self._settings.max_lines

    def _show(self, lines: Iterable[NumberedLine]) -> None:
        for line in lines:
            if not self._is_full:
                self._shown += 1
                self._records.append(self._job_record(line.level, line.text, line.number))
            elif not self._hides_lines:
                self._hides_lines = True
                text = f"Showing only the first {self._shown:,} lines of the job's log (max_lines)."
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
