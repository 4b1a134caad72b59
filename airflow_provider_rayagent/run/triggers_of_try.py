"""What the triggers of a try have saved, for the worker that completes the task."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.position.gaps import (
    MISSING_LINES,
    Gap,
    add_gap,
    began_at,
    saved_gaps,
)
from airflow_provider_rayagent.position.log_files import storage_of
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, read_position
from airflow_provider_rayagent.run.observer import log_last_lines
from airflow_provider_rayagent.run.printed_output import seconds_to_read_again
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_pull_xcom
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from airflow_provider_rayagent.run.observer import JobObserver
    from airflow_provider_rayagent.run.outcome import Outcome


class TriggersOfTry:
    """What the triggers of a task instance's try have saved.

    :param observer: that of the worker that completes the task; its position is where the first trigger started.
    :param ti: the task instance.
    :param log: the task's logger.
    :param expires: see :func:`seconds_to_read_again`.
    :param ended_early: whether the last trigger ended without firing, so that Airflow did not upload its file.
    """

    def __init__(self, observer: JobObserver, ti: Any, log: Any, *, expires: float, ended_early: bool = False) -> None:
        self._observer = observer
        self._log = log
        self._expires = expires
        self._ended_early = ended_early
        self._start = observer.position
        found = try_pull_xcom(ti, POSITION_KEY, log)
        self.position = read_position(found, ti)
        """The position in the log that the triggers reached; ``None`` if unknown."""
        self.saved: dict[str, Any] = found if self.position is not None else {}
        """Everything that the last trigger saved."""

    @cached_property
    def _last_is_lost(self) -> bool:
        """Whether the last trigger's file will be missing from the finished log."""
        if self.position is None:
            return False
        storage = storage_of(self._observer.options.log_storage, self.saved.get("folder"))
        return storage == "separate" or (storage == "remote" and self._ended_early)

    def forward_gaps(self, outcome: Outcome) -> None:
        """Write the lines that the finished log lacks to this worker's log, or log which ones are missing."""
        deadline = time.monotonic() + seconds_to_read_again(self._expires)
        gaps = saved_gaps(self.saved)
        if self._last_is_lost and self.position is not None:
            # At the job's end the last trigger wrote all lines.
            until = None if outcome.end is End.JOB_ENDED else self.position["lines"]
            gaps = add_gap(gaps, Gap(began_at(self.saved, self._start), until))
        for gap in gaps:
            if not gap.is_empty:
                self._forward(gap, outcome, max(deadline - time.monotonic(), 0.0))

    def log_summary(self) -> None:
        """Log how far the triggers have read and, after a failure, the last lines unless they are forwarded here."""
        observer = self._observer
        # Saved when a trigger stops following; a position can be older, if Airflow has not written all lines.
        lines = self.saved.get("lines", self.position["lines"] if self.position else None)
        self._log.info("The triggerer has read %d lines of the log of job %s.", lines, observer.job_id)
        last = self.saved.get("last_lines")
        # With max_lines, what is forwarded does not include them.
        if last and (not self._last_is_lost or observer.options.display.max_lines is not None):
            log_last_lines(self._log, observer.job_id, last, observer.client.config.redact)

    def _forward(self, gap: Gap, outcome: Outcome, seconds: float) -> None:
        # Reading the log would only fail, perhaps after minutes.
        if outcome.end in (End.JOB_MISSING, End.AGENT_UNREACHABLE, None):
            why = outcome.error.detail if outcome.error else "the job does not exist"
        else:
            self._log.info(
                coded(
                    Code.TAKEN_OVER,
                    "Forwarding %s of job %s again: the log file of the triggerer that wrote them is not part of this "
                    "log.",
                ),
                gap,
                self._observer.job_id,
            )
            why = self._observer.forward_gap(gap, MAX_LINE_LENGTH, seconds)
        if why:
            self._log.warning(MISSING_LINES, self._observer.job_id, gap, why)
