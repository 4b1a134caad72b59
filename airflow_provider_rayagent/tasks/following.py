"""A task that follows a job to its end: in a worker, or deferred in the triggerer."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout

from airflow_provider_rayagent.client.validation import (
    Protocol,
    validate_choice,
    validate_count,
    validate_duration,
    validate_id,
    validate_protocol,
)
from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentInputError, RayAgentJobFailedError
from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, push_job_link
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.log_files import LOG_STORAGES, LogStorage
from airflow_provider_rayagent.tasks.hook import HookMixin
from airflow_provider_rayagent.tasks.log_position import recall_position, save_position
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.triggers.outcome import Outcome, deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.tasks.triggers import TriggersOfTry
    from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

POLL_INTERVAL = 5.0
MAX_LINE_LENGTH = 16_000
RESULT_MARKERS = ("__SYNAPSE_RESULT_START__", "__SYNAPSE_RESULT_END__")
"""Between which the platform's plugin runner prints an action's result."""


class RayAgentJobFollowingMixin(HookMixin, BaseOperator):
    """What tasks that follow a job have in common.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param forward_logs: whether the job's log is forwarded.
    :param detect_levels: whether a line of the job has the level that it tells itself (Python's logging, Ray's own,
        glog, JSON; the lines of a traceback are errors), so that the log view's filter works; else all are INFO.
    :param colors: whether terminal colors are kept, which the log view shows; else they are dropped.
    :param progress_interval: seconds between two states of a progress bar that are shown; its last one always is.
        ``None``: every state is shown.
    :param max_lines: lines of the job that are shown as they come; ``None``: all. Of those that follow only the last
        ones are shown, at the job's end, and how many were left out is said.
    :param tail_lines: how many of these last ones.
    :param max_line_length: characters; a longer line is forwarded in marked pieces.
    :param read_result: whether the JSON that the job prints between ``result_markers`` goes to XCom, as ``result``.
        Where it can't be used (none, not JSON, over 64,000 characters, not to be stored in Airflow), the log says why,
        and it is ``None``.
    :param result_markers: the two texts between which the job prints its result; the last one that it prints counts.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http`` (server-sent events).
    :param job_missing_timeout: seconds for which the agent may not know the job; a job in the agent's queue is not
        known for a while.
    :param agent_unreachable_timeout: seconds for which the job's status may be unreadable.
    :param deferrable: follow the job in the triggerer, without a worker; the default is ``[operators]
        default_deferrable``.
    :param stop_job_on_kill: stop the job when a user ends the task (marks it, clears it), or when its timeout does.
        A task that goes on (another triggerer, the next try) leaves it alone. Deferred, a user's act is noticed on
        Airflow 3.3 and newer only.
    :param log_storage: how the log files of a deferred task are kept, which decides what is forwarded again where a
        triggerer ends early: ``shared`` (all components of Airflow use one log folder), ``remote`` (files are uploaded
        when a task or trigger ends), ``separate`` (each component keeps its own). ``auto`` finds out.
    :param resume_log: let a new try go on in the log where the last one stopped, as far as that is known (Airflow
        3.3 and newer), and not at the first line.
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id")
    operator_extra_links = (RayAgentJobLink(),)
    job_id: str
    _failed_error: type[RayAgentError] = RayAgentJobFailedError

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        forward_logs: bool = True,
        detect_levels: bool = True,
        colors: bool = True,
        progress_interval: timedelta | float | None = 5.0,
        max_lines: int | None = None,
        tail_lines: int = 200,
        max_line_length: int = MAX_LINE_LENGTH,
        read_result: bool = False,
        result_markers: tuple[str, str] = RESULT_MARKERS,
        protocol: Protocol = "auto",
        job_missing_timeout: timedelta | float = 60.0,
        agent_unreachable_timeout: timedelta | float = 300.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        stop_job_on_kill: bool = False,
        resume_log: bool = False,
        log_storage: LogStorage = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.forward_logs = forward_logs
        self.detect_levels = detect_levels
        self.colors = colors
        self.progress_interval = (
            None if progress_interval is None else validate_duration(progress_interval, "progress_interval")
        )
        self.max_lines = None if max_lines is None else validate_count(max_lines, "max_lines")
        self.tail_lines = 0 if tail_lines == 0 else validate_count(tail_lines, "tail_lines")
        self.max_line_length = validate_count(max_line_length, "max_line_length")
        self.read_result = read_result
        self.result_markers = _validate_markers(result_markers)
        self.protocol = validate_protocol(protocol)
        self.job_missing_timeout = validate_duration(job_missing_timeout, "job_missing_timeout")
        self.agent_unreachable_timeout = validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.deferrable = deferrable
        self.stop_job_on_kill = stop_job_on_kill
        self.resume_log = resume_log
        self.log_storage = validate_choice(log_storage, "log_storage", LOG_STORAGES)
        self._task_job: TaskJob | None = None
        self._is_killed = False
        self._start_by: float | None = None
        """The moment (seconds since the epoch) by which the job has to have started, if there is one."""

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Conclude from the trigger's event."""
        task_job = self._begin(context)
        with self._ending(), self.hook:
            outcome = Outcome.from_event(event)
            if outcome.end is End.JOB_ENDED:
                outcome = replace(outcome, job=task_job.details(outcome.job or {}))
            self._after_triggers(context, task_job, outcome)
            return self._conclude(context, task_job, outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; one that no triggerer ended in time ends with one more look."""
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            task_job = self._begin(context)
            triggers = self._triggers(context, task_job, ended_early=True)
            task_job.observer.position = triggers.position or task_job.observer.position
            with self._ending(), self.hook:
                if self.forward_logs:
                    triggers.forward_gaps(Outcome(End.TIMED_OUT), self.execution_timeout)
                outcome = self._look_before_the_end(task_job)
                return self._conclude(context, task_job, replace(outcome, end=outcome.end or End.TIMED_OUT))

    def on_kill(self) -> None:
        """End the following; with ``stop_job_on_kill`` stop the job, unless the task goes on elsewhere."""
        self._is_killed = True
        if self._task_job is not None:
            self._task_job.stopper.on_kill()

    def _poll_seconds(self) -> float:
        """Return the seconds between two looks at the job's status."""
        raise NotImplementedError

    def _seconds(self) -> float | None:
        """Return for how long the job may be followed; ``None``: as long as it takes."""
        return self.execution_timeout.total_seconds() if self.execution_timeout else None

    def _time_out(self, task_job: TaskJob, job: Mapping[str, Any] | None) -> None:
        """Raise that the job has not ended in time."""
        task_job.time_out("execution_timeout", self._seconds() or 0.0, job, AirflowTaskTimeout)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Say why the task ends where Airflow does not."""
        try:
            yield
        except AirflowTaskTimeout as error:
            self._say_why(error)
            raise

    def _say_why(self, error: BaseException | None) -> None:
        if isinstance(error, AirflowTaskTimeout) and self._task_job is not None:
            self._task_job.stopper.stop("The task's execution_timeout is over")
        if error is not None:
            self.log.error("%s", error)

    def _begin(self, context: Context) -> TaskJob:
        from airflow_provider_rayagent.client.following import tail_settings
        from airflow_provider_rayagent.render.record_builder import PresentSettings
        from airflow_provider_rayagent.tasks.job import TaskJob

        validate_id(self.job_id, "job")
        if self._task_job is None:
            settings = tail_settings(
                self.protocol,
                start_by=self._start_by,
                poll_interval=max(self._poll_seconds(), 0.5),
                missing_timeout=self.job_missing_timeout,
                unreachable_timeout=self.agent_unreachable_timeout,
                max_line_length=self.max_line_length,
                progress_interval=self.progress_interval,
                forward=self.forward_logs or self.read_result,
            )
            self._task_job = TaskJob.create(
                self.hook,
                self.job_id,
                self.log,
                context["ti"],
                settings,
                present=PresentSettings.from_json(self._present()),
                log_is_shown=self.forward_logs,
                markers=self.result_markers if self.read_result else None,
                link=push_job_link(self, context),
                owns=self.stop_job_on_kill,
                failed_error=self._failed_error,
                position=recall_position(context, self.job_id, same_try=False) if self.resume_log else None,
            )
        return self._task_job

    def _present(self) -> dict[str, Any]:
        return {
            "levels": self.detect_levels,
            "colors": self.colors,
            "progress_interval": self.progress_interval,
            "max_lines": self.max_lines,
            "tail_lines": self.tail_lines,
        }

    def _conclude(self, context: Context, task_job: TaskJob, outcome: Outcome) -> dict[str, Any]:
        if outcome.end is End.TIMED_OUT:
            self._time_out(task_job, outcome.job)
        result = task_job.conclude(outcome)
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                extra = storable({"job_id": self.job_id, "duration": result["duration"]})
                context["outlet_events"][outlet].extra.update(extra)
        return result

    # In a worker

    def _follow(self, context: Context, task_job: TaskJob, seconds: float | None = None) -> Outcome:
        try:
            return Outcome.of(task_job.observer.follow(seconds))
        except AirflowTaskTimeout:
            # Airflow raises it wherever the task is at that moment; the job may have ended by then.
            outcome = self._look_before_the_end(task_job)
            if outcome.end is End.JOB_ENDED:
                return outcome
            raise
        finally:
            if self.resume_log:
                save_position(context, self.job_id, task_job.observer.position)

    def _look(self, context: Context, task_job: TaskJob) -> Outcome:
        if not task_job.observer.settings.forward or context.get("task_state_store") is None:
            follower = task_job.observer.wait_for_status()
            return Outcome.of(task_job.observer.follow() if follower.end is End.JOB_ENDED else follower)
        task_job.observer.position = recall_position(context, self.job_id, same_try=not self.resume_log)
        follower = task_job.observer.forward_new_lines()
        save_position(context, self.job_id, task_job.observer.position)
        return Outcome.of(follower)

    def _look_before_the_end(self, task_job: TaskJob) -> Outcome:
        """Look at the job, and forward its log if it has ended; an outcome without an end means that it goes on."""
        follower = task_job.observer.check_status()
        if follower.end is End.JOB_ENDED:
            follower = task_job.observer.follow()
        outcome = Outcome.of(follower)
        return replace(outcome, end=None) if follower.end is End.TIMED_OUT else outcome

    # Deferred

    def _execute_deferred(self, context: Context) -> Any:
        task_job = self._begin(context)
        with self.hook:
            outcome = self._look_before_the_end(task_job)
        if outcome.end is not None:
            return self._conclude(context, task_job, outcome)
        self.log.info(
            "The triggerer follows job %s from here on, without a worker; its lines come into this log meanwhile.",
            self.job_id,
        )
        from airflow_provider_rayagent.triggers.position import POSITION_KEY, first_position

        if task_job.observer.settings.forward:
            context["ti"].xcom_push(key=POSITION_KEY, value=storable(first_position(context["ti"])))
        seconds = self._seconds()
        return self.defer(
            trigger=self._trigger(
                deadline=None if seconds is None else time.time() + seconds,
                cursor=storable(dict(task_job.observer.position)) if task_job.observer.position else None,
            ),
            method_name="execute_complete",
            timeout=None if seconds is None else deferral_timeout(seconds),
        )

    def _trigger(self, deadline: float | None = None, cursor: dict[str, Any] | None = None) -> RayAgentJobTrigger:
        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

        return RayAgentJobTrigger(
            job_id=self.job_id,
            rayagent_conn_id=self.rayagent_conn_id,
            forward_logs=self.forward_logs,
            protocol=self.protocol,
            poll_interval=max(self._poll_seconds(), 0.5),
            job_missing_timeout=self.job_missing_timeout,
            agent_unreachable_timeout=self.agent_unreachable_timeout,
            max_line_length=self.max_line_length,
            deadline=deadline,
            start_deadline=self._start_by,
            cursor=cursor,
            stop_job_on_kill=self.stop_job_on_kill,
            present=self._present(),
            result_markers=list(self.result_markers) if self.read_result else None,
            log_storage=self.log_storage,
        )

    def _triggers(self, context: Context, task_job: TaskJob, *, ended_early: bool = False) -> TriggersOfTry:
        from airflow_provider_rayagent.tasks.triggers import TriggersOfTry

        return TriggersOfTry(task_job, context["ti"], self.log_storage, ended_early=ended_early)

    def _after_triggers(self, context: Context, task_job: TaskJob, outcome: Outcome) -> None:
        """Go on where the triggers of this try stopped; forward what they wrote to files that are lost."""
        triggers = self._triggers(context, task_job)
        position = triggers.position
        if task_job.result is not None:
            task_job.result.take_saved(triggers.saved.get("result"), (position or {}).get("result"))
        if position is None:
            return
        task_job.observer.position = position
        if self.forward_logs:
            triggers.forward_gaps(outcome, self.execution_timeout)
            triggers.tell()
        if self.resume_log:
            save_position(context, self.job_id, task_job.observer.position)


def _validate_markers(value: object) -> tuple[str, str]:
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(isinstance(m, str) and m for m in value):
        raise RayAgentInputError(f"result_markers must be two texts, not {value!r:.100}.")
    return (value[0], value[1])
