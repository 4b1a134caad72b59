"""What the triggers of a try have done, as the worker sees it that ends the task."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.triggers.gaps import (
    MISSING_LINES,
    Gap,
    add_gap,
    began_at,
    lines_shown,
    saved_gaps,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_provider_rayagent.task_instance.log_files import LogStorage
    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.triggers.outcome import Outcome


class TriggersOfTry:
    """What the triggers of a task instance's try saved.

    :param task_job: of the worker that ends the task; its position is where the first trigger began.
    :param ti: the task instance.
    :param storage: where log files are kept.
    :param ended_early: whether the last trigger ended before it fired, so that Airflow did not upload its file.
    """

    def __init__(self, task_job: TaskJob, ti: Any, storage: LogStorage, *, ended_early: bool = False) -> None:
        from airflow_provider_rayagent.triggers.position import POSITION_KEY, read_position

        self._task_job = task_job
        self._storage = storage
        self._ended_early = ended_early
        self._start = task_job.observer.position
        found = TaskIdentity.of(ti).pull(ti, POSITION_KEY)
        self.position = read_position(found, ti)
        """Where in the log they have come to; ``None`` if that is not known."""
        self.saved: dict[str, Any] = found if self.position is not None else {}
        """All that the last one saved."""

    @cached_property
    def _last_is_lost(self) -> bool:
        """Whether the finished log lacks the last trigger's file too."""
        from airflow_provider_rayagent.task_instance.log_files import storage_of

        if self.position is None:
            return False
        storage = storage_of(self._storage, self.saved.get("folder"))
        return storage == "separate" or (storage == "remote" and self._ended_early)

    def forward_gaps(self, outcome: Outcome, execution_timeout: timedelta | None = None) -> None:
        """Write the lines that the finished log lacks into this worker's log, or say which are missing.

        :param execution_timeout: the task's; Airflow gives it anew to the worker that ends a deferred task. Half of it
            is left for the outcome, which the log must not decide.
        """
        from airflow_provider_rayagent.tasks.observer import GAP_SECONDS

        limit = execution_timeout.total_seconds() / 2 if execution_timeout else GAP_SECONDS
        deadline = time.monotonic() + min(limit, GAP_SECONDS)
        gaps = saved_gaps(self.saved)
        if self._last_is_lost and self.position is not None:
            # What the last trigger held back (see max_lines) it wrote at the job's end.
            until = None if outcome.end is End.JOB_ENDED else lines_shown(self.position)
            gaps = add_gap(gaps, Gap(began_at(self.saved, self._start), until))
        for gap in gaps:
            if not gap.is_empty:
                self._forward(gap, outcome, max(deadline - time.monotonic(), 0.0))

    def tell(self) -> None:
        """Say how far the triggers have read, and the last lines of a failure that are not forwarded here."""
        from airflow_provider_rayagent.text.showable import showable

        task_job = self._task_job
        lines = self.saved.get("lines", (self.position or {}).get("lines"))
        task_job.log.info("The triggerer has read %d lines of the log of job %s.", lines, task_job.job_id)
        last = self.saved.get("last_lines")
        if last and not self._last_is_lost:
            text = showable("\n".join(last), task_job.hook.config.redact, lines=True)
            task_job.log.info("The last lines of job %s:\n%s", task_job.job_id, text)

    def _forward(self, gap: Gap, outcome: Outcome, seconds: float) -> None:
        from airflow_provider_rayagent.triggers.rayagent import MAX_LINE_LENGTH

        task_job = self._task_job
        if outcome.end in (End.JOB_MISSING, End.AGENT_UNREACHABLE, None):
            why = str(outcome.error or "the agent does not know the job")
        else:
            task_job.log.info(
                "Forwarding %s of job %s again: the log file of the triggerer that wrote them is not part of this log.",
                gap,
                task_job.job_id,
            )
            why = task_job.observer.forward_gap(gap, MAX_LINE_LENGTH, seconds)
        if why:
            task_job.log.warning(MISSING_LINES, task_job.job_id, gap, why)
