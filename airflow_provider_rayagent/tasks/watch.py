"""Watch a job from a worker: its log goes to the task log, its end becomes a result or an error."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from airflow_provider_rayagent.client import jobs, wire
from airflow_provider_rayagent.client.answers import brief
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.exceptions import (
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
)
from airflow_provider_rayagent.hooks.common import JOB_LOGGER
from airflow_provider_rayagent.render.presenter import PresentSettings
from airflow_provider_rayagent.render.reasons import explain
from airflow_provider_rayagent.render.records import JobRecords, Joiner
from airflow_provider_rayagent.render.result import BadResultError, ResultFinder
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.lines import changed
from airflow_provider_rayagent.task_instance.state import GOES_ON, stop_soon, task_state
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.client.follow import Follower
    from airflow_provider_rayagent.client.following import Item
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.render.presenter import Record
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.triggers.gaps import Gap
    from airflow_provider_rayagent.triggers.outcome import Outcome

HANDLER_SECONDS = 1.0
KILL_SECONDS = 4.0
"""How long a killed task waits for its job to be stopped; Airflow gives it 5 seconds."""
AGAIN_SECONDS = 600.0
"""How long the lines of a trigger whose log file is lost may take to be forwarded again."""


@dataclass
class JobWatch:
    """One job that a task watches.

    :param log: the task's logger.
    :param ti: the task instance.
    :param settings: how the job is followed.
    :param present: how its lines look.
    :param shown: whether its lines are shown.
    :param markers: between which it prints its result; ``None``: it has none.
    :param link: the address of the job's page, if there is one.
    :param owns: whether the job is stopped when the task is killed.
    :param failed_error: what is raised for a job that FAILED.
    """

    hook: RayAgentHook
    job_id: str
    log: Any
    ti: Any
    settings: TailSettings
    present: PresentSettings = field(default_factory=PresentSettings)
    shown: bool = True
    markers: tuple[str, str] | None = None
    link: str = ""
    owns: bool = False
    failed_error: type[RayAgentError] = RayAgentJobFailedError
    position: Mapping[str, Any] | None = None
    """Where in the log the following has come to; see :meth:`JobRecords.position`."""
    result: ResultFinder | None = None
    """What was found of the job's result, up to the log's end."""
    _older_result: ResultFinder | None = None
    _result_is_sure: bool = False
    """Whether it was looked for here from the first line on."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _stop_asked: bool = False
    _stopper: threading.Thread | None = None
    _job_log: Any = field(default_factory=lambda: structlog.get_logger(JOB_LOGGER))
    _joiner: Joiner = field(default_factory=Joiner)

    def look(self) -> Follower:
        """Look at the status alone."""
        return self._run(replace(self.settings, forward=False, once=True), None)

    def ask(self) -> Follower:
        """Ask for the status once; the end is ``TIMED_OUT`` where the job goes on, as far as can be known."""
        return self._run(replace(self.settings, forward=False), 0.0)

    def look_at_log(self) -> Follower:
        """Look at the status, and forward what is new in the log."""
        return self._run(replace(self.settings, once=True), None)

    def follow(self, seconds: float | None = None) -> Follower:
        """Follow the job to its end, or for so many seconds."""
        return self._run(self.settings, seconds)

    def forward_again(self, gap: Gap, max_line_length: int, seconds: float = AGAIN_SECONDS) -> str:
        """Write the lines of a gap; return why some can't be had, nothing if all are written.

        :param max_line_length: that of the trigger which counted the lines.
        :param seconds: how long it may take.
        """
        settings = replace(self.settings, max_line_length=min(self.settings.max_line_length, max_line_length))
        records = self._records(gap.start)
        cursor = Cursor.from_json(dict(gap.start))
        follower = self._follower(settings, cursor, seconds)
        left = sys.maxsize if gap.until is None else gap.until - cursor.lines
        with closing(follower.items()) as found:
            for items in found:
                if follower.cursor is not cursor:
                    return "the job's log was rewritten since"
                lines = [item for item in items if isinstance(item, str)][:left]
                left -= len(lines)
                self.tell(records, lines)
                if not left:
                    break
        self._write(records.finish(), time.monotonic())
        if not left or (gap.until is None and follower.log_is_whole):
            return ""
        if follower.end is End.TIMED_OUT:
            return f"reading them took more than {seconds:g} seconds"
        return str(follower.error or "the job's log can't be read")

    def _records(self, position: Mapping[str, Any] | None, markers: tuple[str, str] | None = None) -> JobRecords:
        return JobRecords(
            self.job_id,
            self.present,
            markers=markers,
            shown=self.shown,
            redact=self.hook.config.redact,
            where=self.hook.config.base_url,
            position=position,
        )

    def _follower(self, settings: TailSettings, cursor: Cursor | None, seconds: float | None) -> Follower:
        return self.hook.follow_job(self.job_id, settings, cursor=cursor, deadline=seconds, stopped=self._stopped)

    def _run(self, settings: TailSettings, seconds: float | None) -> Follower:
        records = self._records(self.position, self.markers)
        cursor = Cursor.from_json(dict(self.position)) if self.position else None
        follower = self._follower(settings, cursor, seconds)
        try:
            for items in follower.items():
                self.tell(records, items)
        finally:
            if settings.forward:
                self._result_is_sure = cursor is None
                if follower.end is not End.LOOKED:
                    self._write(records.finish(), time.monotonic())
                self.position = records.position(follower.cursor)
                self.result = records.result
            self.await_stop()
        return follower

    def tell(self, records: JobRecords, items: Sequence[Item]) -> None:
        """Write to the task log what there is to tell."""
        now = time.monotonic()
        self._write(records.of(items, now), now)

    def _write(self, records: list[Record], now: float) -> None:
        for record in self._joiner.joined(records, now):
            (self._job_log if record.of_job else self.log).log(record.level, "%s", record.text)

    def details(self, seen: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the details of a job that was seen to have ended; its status stays the one that was seen."""
        try:
            job = self.hook.get_job(self.job_id)
        except RayAgentError as error:
            self.log.warning("The details of job %s could not be read: %s", self.job_id, error)
            return seen
        if job.get("status") != seen.get("status"):
            self.log.warning("Job %s ended as %s, and is %s now.", self.job_id, self._status(seen), self._status(job))
            return seen
        return job

    def take_result(self, final: Mapping[str, Any] | None, older: Mapping[str, Any] | None) -> None:
        """Take what triggers have found of the job's result; see :meth:`ResultFinder.state`.

        If the job succeeded and that is no result that can be used, the whole log is looked through once more.

        :param final: what was found when the log had been read to its end; ``None`` if that was not saved.
        :param older: what was found before; it counts if the log cannot be read again, since a job may print several.
        """
        if self.markers is None:
            return
        self.result = None if final is None else ResultFinder(self.markers, final)
        self._older_result = None if older is None else ResultFinder(self.markers, older)

    def conclude(self, outcome: Outcome) -> dict[str, Any]:
        """Return what goes to XCom of a job that succeeded.

        :raises RayAgentJobFailedError: or :class:`RayAgentJobStoppedError`, after the XCom was pushed.
        :raises RayAgentJobMissingError: if the agent does not know the job.
        :raises RayAgentError: the last failure to ask for the status.
        """
        if outcome.end is End.JOB_ENDED:
            return self._result(outcome.job or {})
        if outcome.end is End.JOB_MISSING:
            raise RayAgentJobMissingError(
                f"The agent does not know the job {self.job_id}"
                + (", though it did before." if outcome.job else f" after {self.settings.missing_timeout:g} seconds.")
                + " Check the id and the agent's connection; an agent that was set up anew forgets its jobs.",
                404,
            )
        raise outcome.error or RayAgentError(f"The status of job {self.job_id} could not be read.")

    def _result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        redact = self.hook.config.redact
        summary = jobs.summarize(job, self.job_id, redact)
        status = jobs.known_status(job)
        if status is wire.JobStatus.SUCCEEDED:
            if self.markers is not None:
                summary["result"] = self._printed_result(self.markers)
            return summary
        self.ti.xcom_push(key="return_value", value=storable(summary))
        reason = explain(job, self.job_id, log_is_shown=self.shown, link=self.link, redact=redact)
        kind = RayAgentJobStoppedError if status is wire.JobStatus.STOPPED else self.failed_error
        raise kind(reason)

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)

    def _printed_result(self, markers: tuple[str, str]) -> Any:
        try:
            if self.result is not None:
                return self.result.value(self.hook.config.redact)
        except BadResultError as error:
            if self._result_is_sure:
                return self._no_result(error)
        found = self._found_again(markers) or self.result or self._older_result or ResultFinder(markers)
        try:
            return found.value(self.hook.config.redact)
        except BadResultError as error:
            return self._no_result(error)

    def _no_result(self, why: BadResultError) -> None:
        self.log.warning("The result of job %s can't be used: %s.", self.job_id, why)

    def _found_again(self, markers: tuple[str, str]) -> ResultFinder | None:
        """Look for the job's result in its whole log; ``None``, and a warning, if that can't be read."""
        finder = ResultFinder(markers)
        try:
            for line in self.hook.tail_job_logs(self.job_id):
                finder.feed(changed(line, self.hook.config.redact))
        except RayAgentError as error:
            self.log.warning("The log of job %s could not be read for its result: %s", self.job_id, error)
            return None
        return finder

    def time_out(
        self, name: str, seconds: float, job: Mapping[str, Any] | None, error: type[BaseException]
    ) -> NoReturn:
        """Stop a job that is owned, and raise ``error``: the job has not ended within the task's timeout ``name``."""
        self.stop(f"The task's {name} is over")
        status = self._status(job) if job else "not known"
        raise error(f"Job {self.job_id} has not ended within the {name} of {seconds:g} seconds; it is {status}.")

    def job_was_started(self) -> None:
        """Take note that the job now exists; one whose task was killed meanwhile is stopped, or stopped again."""
        self.await_stop()
        if self._stopper is not None and self._stop_asked:
            self._stop_asked = False
            self.stop("The task was ended while the job was being started")

    def await_stop(self) -> None:
        """Where the task is being killed, give the stop of its job the time that there is for it."""
        if self._stopper is not None:
            self._stopper.join(KILL_SECONDS - HANDLER_SECONDS)

    def is_killed_within(self, seconds: float) -> bool:
        """Wait; return at once, and whether, the task is killed."""
        return self._stopped.wait(seconds)

    def killed(self) -> None:
        """End the following, from a signal handler; stop a job that is owned unless the task goes on elsewhere."""
        self._stopped.set()
        if self.owns and not self._stop_asked and self._stopper is None:
            # The signal may have come in the middle of a write to the log, or of a talk with Airflow's supervisor,
            # whose lock is held until the handler returns: what is not done by then is waited for afterwards.
            stopper = threading.Thread(target=self._stop_unless_task_goes_on, daemon=True)
            stopper.start()
            self._stopper = stopper
            stopper.join(HANDLER_SECONDS)

    def _stop_unless_task_goes_on(self) -> None:
        state = task_state(self.ti)
        if state in GOES_ON:
            self.log.info("This process ends; the task goes on (%s), and job %s is left alone.", state, self.job_id)
        else:
            self.stop(f"The task was ended from outside (state: {state})")

    def stop(self, why: str) -> None:
        """Stop the job if it is owned, once; a failure is said in the log."""
        if not self.owns or self._stop_asked:
            return
        self._stop_asked = True
        self.log.info("%s; stopping job %s.", why, self.job_id)
        try:
            answer = stop_soon(self.hook.config, self.job_id)
        except RayAgentError as error:
            self.log.error("Job %s could not be stopped: %s", self.job_id, error)  # noqa: TRY400
        else:
            shown = brief(answer, self.hook.config.redact)
            self.log.info("The agent was asked to stop job %s: %s", self.job_id, shown)
