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
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_pull_xcom
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from airflow_provider_rayagent.position.log_files import LogStorage
    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.triggers.outcome import Outcome


class TriggersOfTry:
    """What the triggers of a task instance's try have saved.

    :param task_job: the job in the worker that completes the task; its position is where the first trigger started.
    :param ti: the task instance.
    :param storage: where log files are stored.
    :param ended_early: whether the last trigger ended without firing, so that Airflow did not upload its file.
    """

    def __init__(self, task_job: TaskJob, ti: Any, storage: LogStorage, *, ended_early: bool = False) -> None:
        from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, read_position

        self._task_job = task_job
        self._storage = storage
        self._ended_early = ended_early
        self._start = task_job.observer.position
        found = try_pull_xcom(ti, POSITION_KEY, task_job.log)
        self.position = read_position(found, ti)
        """The position in the log that the triggers reached; ``None`` if unknown."""
        self.saved: dict[str, Any] = found if self.position is not None else {}
        """Everything that the last trigger saved."""

    @cached_property
    def _last_is_lost(self) -> bool:
        """Whether the last trigger's file will be missing from the finished log."""
        from airflow_provider_rayagent.position.log_files import storage_of

        if self.position is None:
            return False
        storage = storage_of(self._storage, self.saved.get("folder"))
        return storage == "separate" or (storage == "remote" and self._ended_early)

    def forward_gaps(self, outcome: Outcome) -> None:
        """Write the lines that the finished log lacks to this worker's log, or log which ones are missing."""
        from airflow_provider_rayagent.tasks.observer import seconds_to_read_again

        deadline = time.monotonic() + seconds_to_read_again(self._task_job.expires)
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
        from airflow_provider_rayagent.tasks.observer import log_last_lines

        task_job = self._task_job
        # Saved when a trigger stops following; a position can be older, if Airflow has not written all lines.
        lines = self.saved.get("lines", self.position["lines"] if self.position else None)
        task_job.log.info("The triggerer has read %d lines of the log of job %s.", lines, task_job.job_id)
        last = self.saved.get("last_lines")
        # With max_lines, what is forwarded does not include them.
        if last and (not self._last_is_lost or task_job.observer.options.display.max_lines is not None):
            log_last_lines(task_job.log, task_job.job_id, last, task_job.hook.config.redact)

    def _forward(self, gap: Gap, outcome: Outcome, seconds: float) -> None:
        task_job = self._task_job
        # Reading the log would only fail, perhaps after minutes.
        if outcome.end in (End.JOB_MISSING, End.AGENT_UNREACHABLE, None):
            why = outcome.error.detail if outcome.error else "the job does not exist"
        else:
            task_job.log.info(
                coded(
                    Code.TAKEN_OVER,
                    "Forwarding %s of job %s again: the log file of the triggerer that wrote them is not part of this "
                    "log.",
                ),
                gap,
                task_job.job_id,
            )
            why = task_job.observer.forward_gap(gap, MAX_LINE_LENGTH, seconds)
        if why:
            task_job.log.warning(MISSING_LINES, task_job.job_id, gap, why)
