"""What is told of a job's log, as records for Airflow's task log: the one place where all of its looks are decided."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.render.bars import Bars, NumberedLine
from airflow_provider_rayagent.render.excerpt import Excerpt
from airflow_provider_rayagent.render.levels import LevelFinder
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.text.showable import showable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MAX_NOTICE = 1_000
"""Characters of a sentence about the log, which may repeat what the agent said of it."""


@dataclass(frozen=True)
class PresentSettings:
    """How a job's lines look in the task log.

    :param levels: whether a line has the level that it tells itself; else all lines are INFO.
    :param colors: whether colors are kept.
    :param progress_interval: seconds between two states of a progress bar; ``None``: all of them are shown. For bars
        that are drawn by ``\\r`` the tail needs it too: ``TailSettings.progress_interval``.
    :param max_lines: lines that are shown as they come; ``None``: all.
    :param tail_lines: lines that are shown at the end of a log with more than ``max_lines``.
    """

    levels: bool = True
    colors: bool = True
    progress_interval: float | None = 5.0
    max_lines: int | None = None
    tail_lines: int = 200

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> PresentSettings:
        """Return the settings that a trigger's arguments hold; releases before spelled ``colors`` otherwise."""
        fields = dict(value or {})
        if "colours" in fields:
            fields["colors"] = fields.pop("colours")
        return cls(**fields)


class Record(NamedTuple):
    """One record of the task log.

    :param level: a number of :mod:`logging`, at least INFO: what is below it does not get into a task log.
    :param text: one line.
    :param of_job: whether it is a line of the job, or its progress; else it is our own.
    """

    level: int
    text: str
    of_job: bool = False


class Presenter:
    """Turn what a tail tells of one job into records of the task log.

    Lines that are held back (the last ones of an excerpt, a bar's latest state) are not lost where another takes over:
    what must be saved for that is :meth:`position`, not the cursor alone. What it is given has no secrets.

    :param position: what :meth:`position` gave the one that is taken over from.
    """

    def __init__(self, settings: PresentSettings | None = None, position: Mapping[str, Any] | None = None) -> None:
        self._settings = settings or PresentSettings()
        saved = position or {}
        self._levels = LevelFinder()
        self._bars = Bars(self._settings.progress_interval)
        self._excerpt: Excerpt[NumberedLine] = Excerpt(
            self._settings.max_lines, self._settings.tail_lines, shown=int(saved.get("shown", 0))
        )
        self._again = int(saved.get("again", 0))
        self._said_full = self._excerpt.shown > 0 and self._excerpt.is_full
        self._lines = 0
        self._records: list[Record] = []
        self._full_since: int | None = None
        self._base = {**Cursor().to_json(), **saved}
        self._base_lines = 0

    def line(self, text: str, now: float) -> None:
        """Take a line of the job.

        :param now: seconds on a monotonic clock, here and below.
        """
        level = self._levels.level_of(text) if self._settings.levels else None
        if self._again:
            self._again -= 1
        else:
            self._show(self._bars.feed(NumberedLine(self._lines, level or logging.INFO, text), now))
        self._lines += 1

    def progress(self, text: str) -> None:
        """Take what an unfinished line shows at the moment."""
        if not self._excerpt.is_full:
            self._records.append(self._of_job(logging.INFO, text))

    def notice(self, text: str) -> None:
        """Take a sentence about the log."""
        self._show(self._bars.flush())
        self._records.append(Record(logging.WARNING, showable(text, length=MAX_NOTICE)))

    def log_was_rewritten(self) -> None:
        """Note that the lines that follow are of another log: none of them was shown before."""
        self._again = 0

    def of_ours(self, level: int, text: str, now: float) -> None:
        """Take a sentence that is not about the log."""
        self._show(self._bars.overdue(now))
        self._records.append(Record(level, text))

    def take(self, now: float) -> list[Record]:
        """Return the records that are ready, a bar's state that has waited long enough among them."""
        self._show(self._bars.overdue(now))
        records, self._records = self._records, []
        return records

    def finish(self) -> list[Record]:
        """Return the records for what was held back. To be called once, when the job has ended or the task gives up."""
        self._show(self._bars.flush())
        left_out, last = self._excerpt.rest()
        if left_out:
            text = f"{left_out:,} lines of the job's log were left out here"
            text += f"; its last {len(last):,} lines follow." if last else "."
            self._records.append(Record(logging.INFO, text))
        records, self._records = self._records, []
        return records + [self._of_job(line.level, line.text) for line in last]

    def position(self, cursor: Cursor) -> dict[str, Any]:
        """Return what another presenter and its tail need to go on from here, as JSON primitives.

        It holds a cursor for :meth:`Cursor.from_json`. While lines are held back that is an earlier one than
        ``cursor``: they are read again then, and those of them that were shown are known by their number.

        :param cursor: the tail's, once all that came before it was given to this one.
        """
        held = [number for number in (self._bars.first_held, self._full_since) if number is not None]
        settled = min(held, default=self._lines)
        if not held and not self._again:
            self._base, self._base_lines = cursor.to_json(), self._lines
        shown = self._excerpt.shown
        return {**self._base, "shown": shown, "again": settled - self._base_lines + self._again}

    def _show(self, lines: Iterable[NumberedLine]) -> None:
        for line in lines:
            if self._excerpt.takes(line):
                self._records.append(self._of_job(line.level, line.text))
                continue
            if self._full_since is None:
                self._full_since = line.number
            if not self._said_full:
                self._said_full = True
                text = f"{self._excerpt.shown:,} lines of the job's log are shown; those that follow are not"
                text += f", but for the last {self._settings.tail_lines:,}, at its end."
                self._records.append(Record(logging.INFO, text))

    def _of_job(self, level: int, text: str) -> Record:
        return Record(max(level, logging.INFO), showable(text, colors=self._settings.colors), of_job=True)
