"""Observe a job from a worker: check its status, and forward its log to the task log."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog

from airflow_provider_rayagent.render.joined_records import Joiner
from airflow_provider_rayagent.render.records import JOB_LOGGER
from airflow_provider_rayagent.run.follow import Sink, follow
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import JobStatusChanged, LogLines, lines_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.metrics.job_metrics import JobMetrics
    from airflow_provider_rayagent.position.gaps import Gap
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.render.records import JobRecords
    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.run.follow_options import FollowOptions
    from airflow_provider_rayagent.run.job_watch import JobWatch
    from airflow_provider_rayagent.run.message_xcoms import MessageXComs
    from airflow_provider_rayagent.run.printed_output import PrintedOutput
    from airflow_provider_rayagent.run.stopper import JobStopper
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
    from airflow_provider_rayagent.transport.tail_driver import Follower


def log_last_lines(log: Any, job_id: str, lines: Sequence[str], redact: Redactor) -> None:
    """Log the last lines of a job that has failed."""
    from airflow_provider_rayagent.text.sanitization import sanitize

    log.info("The last lines of job %s:\n%s", job_id, sanitize("\n".join(lines), redact, lines=True))


class TaskLog:
    """The task log of a worker.

    :param log: the task's logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._job_log: Any = structlog.get_logger(JOB_LOGGER)
        # Its limit is one of records per second.
        self._joiner = Joiner()

    def write(self, records: Sequence[Record]) -> None:
        """Write records, joined if there are too many."""
        for record in self._joiner.joined(records, time.monotonic()):
            # An argument, since a line of the job may contain percent signs.
            (self._job_log if record.from_job else self._log).log(record.level, "%s", record.text)


class _GapSink(Sink):
    """Writes a number of lines to the task log."""

    def __init__(self, task_log: TaskLog, cursor: Cursor, lines: int, seconds: float) -> None:
        self._task_log = task_log
        self._cursor = cursor
        self.is_rewritten = False
        """Whether the log has another text than when its lines were counted."""
        self.left = lines
        """Number of lines that are still to be written."""
        self._deadline = time.monotonic() + seconds

    async def take(self, follower: Follower, items: Sequence[Item]) -> Sequence[Item]:
        """Return the lines that are left to write."""
        # The tail makes a new cursor when the text differs from what was forwarded (``Tail._handle_rewritten_log``).
        self.is_rewritten = follower.cursor is not self._cursor
        lines = [] if self.is_rewritten else lines_in(items)[: self.left]
        self.left -= len(lines)
        return [LogLines(lines)]

    async def write(self, records: Sequence[Record]) -> None:
        """Write records."""
        self._task_log.write(records)

    async def wrote(self, *_: object) -> bool:
        """Return whether there is more to write, and time left."""
        return self.left > 0 and not self.is_rewritten and time.monotonic() < self._deadline


class _StatusFilter(Sink):
    """Passes everything to another sink, except for some changes of the job's status.

    :param hides: gets the details of the job.
    """

    def __init__(self, sink: Sink, hides: Callable[[Mapping[str, Any]], bool]) -> None:
        self._hides = hides
        self.write = sink.write  # type: ignore[method-assign]
        self.wrote = sink.wrote  # type: ignore[method-assign]

    async def take(self, follower: Follower, items: Sequence[Item]) -> Sequence[Item]:  # noqa: ARG002
        """Return the other items."""
        return [item for item in items if not isinstance(item, JobStatusChanged) or not self._hides(item.details)]


class JobObserver(Sink):
    """Observe one job; the methods return the follower they used, which has the outcome.

    :param log: the task's logger.
    :param options: how to follow the job.
    :param metrics: counts what is observed.
    :param output: receives what the job prints for Airflow.
    :param xcoms: pushes what the job's messages state while the job runs.
    :param position: where in the log to start; see :meth:`JobRecords.position`.
    :param stopper: ends the following when the task is killed.
    :param on_status: called now and then with the job's details as last received, ``None``: not yet.
    """

    def __init__(
        self,
        client: JobClient,
        job_id: str,
        log: Any,
        options: FollowOptions,
        *,
        metrics: JobMetrics,
        output: PrintedOutput,
        xcoms: MessageXComs,
        position: LogPosition | None = None,
        stopper: JobStopper | None = None,
        on_status: Callable[[Mapping[str, Any] | None], object] = bool,
    ) -> None:
        self.client = client
        self.job_id = job_id
        self._log = log
        self.options = options
        self.settings = options.tail_settings()
        self.metrics = metrics
        self._output = output
        self._xcoms = xcoms
        self.position = position
        """The position in the log up to which lines are forwarded."""
        self.has_answered = options.has_answered
        """Whether the service has answered in this try."""
        self._stopper = stopper
        self._on_status = on_status
        # One for all followers of this task.
        self._task_log = TaskLog(log)

    @cached_property
    def _watch(self) -> JobWatch:
        # One for all followers, so that a reason is told once; not before the connection is needed.
        return self.options.watch_of(self.client.config, self.job_id)

    def wait_for_status(self) -> BlockingFollower:
        """Wait until the status can be read, and log it, unless the job has ended; do not read the log."""
        # What follows the job then logs its end, after its last lines.
        return self._run(replace(self.settings, forward=False, once=True), None, hides_status=jobs.has_ended)

    def check_status(self) -> BlockingFollower:
        """Request the status once, and do not log it.

        The end is ``TIMED_OUT`` if the job is active or its status unavailable.
        """
        return self._run(replace(self.settings, forward=False), 0.0, hides_status=lambda _: True)

    def forward_new_lines(self, seconds: float) -> BlockingFollower:
        """Read the status, and forward the new lines of the log, for at most ``seconds``."""
        return self._run(replace(self.settings, once=True), seconds)

    def follow(self, seconds: float | None = None) -> BlockingFollower:
        """Follow the job to its end, or for at most ``seconds``; if it has ended, for at least a minute."""
        return self._run(self.settings, seconds)

    def forward_gap(self, gap: Gap, max_line_length: int, seconds: float) -> str:
        """Write the lines of a gap; return why some are missing, or an empty string if all are written.

        :param max_line_length: the limit of the trigger that counted the lines.
        :param seconds: time limit.
        """
        length = min(self.settings.max_line_length, max_line_length)
        # The service has answered the trigger that counted the lines.
        settings = replace(self.settings, max_line_length=length, has_answered=True)
        cursor = Cursor.from_json(dict(gap.start))
        follower = self._follower(settings, cursor, seconds)
        records = self.options.records_of(follower, gap.start)
        lines = sys.maxsize if gap.until is None else gap.until - cursor.lines
        sink = _GapSink(self._task_log, cursor, lines, seconds)
        finish(follow(follower, records, sink))
        if sink.is_rewritten:
            return "the job's log has been rewritten"
        # What is held back when the sink ends the follower.
        self._task_log.write(records.flush())
        if not sink.left or (gap.until is None and follower.log_is_whole):
            return ""
        if follower.end in (None, End.TIMED_OUT):
            return f"reading them took more than {seconds:g} seconds"
        return follower.error.detail if follower.error else "the job's log cannot be read"

    async def write(self, records: Sequence[Record]) -> None:
        """Write records to the task log."""
        self._task_log.write(records)

    async def wrote(self, follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:
        """Note what the records mean to Airflow."""
        self._on_status(follower.job)
        self.metrics.forwarded(follower, items)
        await self._xcoms.push_soon(records.printed.messages)
        return True

    def _run(
        self,
        settings: TailSettings,
        seconds: float | None,
        *,
        hides_status: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> BlockingFollower:
        cursor = Cursor.from_json(dict(self.position)) if self.position else None
        follower = self._follower(replace(settings, has_answered=self.has_answered), cursor, seconds)
        records = self.options.records_of(follower, self.position)
        with self.metrics.following(follower):
            try:
                sink = self if hides_status is None else _StatusFilter(self, hides_status)
                finish(follow(follower, records, sink, self._watch))
            except BaseException:
                # Airflow's timeout, above all. The task ends, or has another look at the job.
                self._task_log.write(records.finish())
                raise
            finally:
                self.has_answered = follower.has_answered
                if settings.forward:
                    if records.hides_lines and follower.has_failed:
                        log_last_lines(self._log, self.job_id, records.last_lines, follower.redact)
                    self.position = records.position(follower.cursor)
                    self._output.set_found(records.printed, is_whole=follower.log_is_whole)
                if self._stopper is not None:
                    # The process ends soon after the task, and with it the thread that requests the stop.
                    self._stopper.wait()
        finish(self._xcoms.push_all(records.printed.messages))
        return follower

    def _follower(self, settings: TailSettings, cursor: Cursor | None, seconds: float | None) -> BlockingFollower:
        stopped = self._stopper.task_is_killed if self._stopper is not None else None
        return self.client.follow_job(self.job_id, settings, cursor=cursor, deadline=seconds, stopped=stopped)
