"""Sensor that follows a Ray job to its end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
)

from airflow_provider_rayagent.agent import wire
from airflow_provider_rayagent.agent.outcome import Outcome
from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentJobTimeoutError
from airflow_provider_rayagent.hooks.common import SOURCES, TIMEOUT_MARGIN
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.hooks.watch import JobWatch
from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, job_link
from airflow_provider_rayagent.logs.commands import End, TailSettings
from airflow_provider_rayagent.logs.cursor import Cursor
from airflow_provider_rayagent.logs.present import neutralize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context

    from airflow_provider_rayagent.agent.follow import Follower
    from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

POKE_INTERVAL = 5.0
RESCHEDULE_INTERVAL = 60.0
MAX_LINE_LENGTH = 16_000
CURSOR_KEY = "rayagent_log_cursor"


class RayAgentJobSensor(BaseSensorOperator):
    """Follow a Ray job: forward its log, line by line, to the task log until the job has ended.

    The task succeeds exactly when the job does. A job that FAILED or was STOPPED fails the task without a retry,
    since a job that has ended stays as it is. The final details of the job go to XCom (``return_value``), also when
    the task fails: ``job_id``, ``submission_id``, ``type``, ``status``, ``message``, ``error_type``, ``entrypoint``,
    ``start_time`` and ``end_time`` (ms since the epoch), ``duration`` (seconds), ``driver_exit_code``,
    ``driver_node_id``, ``metadata``.

    In ``mode="reschedule"`` the worker slot is free between two looks; each look forwards what is new in the log.
    (Before Airflow 3.3 a task keeps no state between looks, so that the log is forwarded when the job has ended.)

    :param job_id: the job's id (Ray's submission id). (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param forward_logs: whether the job's log is forwarded.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http`` (server-sent events).
    :param poke_interval: seconds between two looks at the job's status; default 5, or 60 in ``mode="reschedule"``,
        where less than 5 can hit a race in Airflow's scheduler.
    :param job_missing_timeout: seconds for which the agent may not know the job; a job in the agent's queue is not
        known for a while.
    :param agent_unreachable_timeout: seconds for which the job's status may be unreadable.
    :param max_line_length: characters; a longer line is forwarded in marked pieces.
    :param deferrable: follow the job in the triggerer, without a worker; the default is ``[operators]
        default_deferrable``. ``mode`` has no effect then.
    :param start_from_trigger: defer without a worker having run at all; not for mapped tasks.
    :param stop_job_on_kill: stop the job when a user ends the task (marks it, clears it), or when ``timeout`` or
        ``execution_timeout`` does. A task that goes on (another triggerer, the next try) leaves it alone. Deferred,
        a user's act is noticed on Airflow 3.3 and newer only.
    :param resume_log: let a new try go on in the log where the last one stopped, as far as that is known (Airflow
        3.3 and newer), and not at the first line.

    ``timeout``, ``soft_fail``, ``mode`` and the other arguments are those of every sensor; ``timeout`` covers the
    whole time that the job is followed.
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id")
    operator_extra_links = (RayAgentJobLink(),)
    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        job_id: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        forward_logs: bool = True,
        protocol: wire.Protocol = "auto",
        poke_interval: timedelta | float | None = None,
        job_missing_timeout: float = 60.0,
        agent_unreachable_timeout: float = 300.0,
        max_line_length: int = MAX_LINE_LENGTH,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        stop_job_on_kill: bool = False,
        resume_log: bool = False,
        **kwargs: Any,
    ) -> None:
        if poke_interval is None:
            reschedule = kwargs.get("mode") == "reschedule" and not deferrable
            poke_interval = RESCHEDULE_INTERVAL if reschedule else POKE_INTERVAL
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_id = job_id
        self.rayagent_conn_id = rayagent_conn_id
        self.forward_logs = forward_logs
        self.protocol = wire.validate_protocol(protocol)
        self.job_missing_timeout = wire.validate_duration(job_missing_timeout, "job_missing_timeout")
        self.agent_unreachable_timeout = wire.validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.max_line_length = wire.validate_count(max_line_length, "max_line_length")
        self.deferrable = deferrable or start_from_trigger
        self.stop_job_on_kill = stop_job_on_kill
        self.resume_log = resume_log
        self._watch: JobWatch | None = None
        self._started: float | None = None
        if start_from_trigger:
            self._start_from_trigger()

    @cached_property
    def hook(self) -> RayAgentHook:
        """The hook for the agent."""
        return RayAgentHook(rayagent_conn_id=self.rayagent_conn_id)

    def execute(self, context: Context) -> Any:
        """Follow the job, here or deferred; ``timeout`` counts from here."""
        self._watch = self._started = None
        if self.start_from_trigger and context["ti"].map_index not in (None, -1):
            raise RayAgentInputError(
                "start_from_trigger cannot be used with a mapped task: Airflow starts it in a worker all the same. "
                "Leave start_from_trigger out; deferrable=True alone frees the worker after a few seconds."
            )
        with self._skipping():
            return self._execute_deferred(context) if self.deferrable else super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Follow the job to its end; in ``mode="reschedule"`` look once."""
        watch = self._begin(context)
        with self.hook:
            follower = self._look(context, watch) if self.reschedule else self._follow(context, watch)
        if follower.end is End.LOOKED or follower.end is None:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(watch, Outcome.of(follower)))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Conclude from the trigger's event."""
        watch = self._begin(context)
        with self._skipping(), self.hook:
            outcome = Outcome.from_event(event)
            if outcome.end is End.JOB_ENDED:
                outcome = replace(outcome, job=watch.details(outcome.job or {}))
            self._take_over(context)
            return self._conclude(watch, outcome)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; one that no triggerer ended in time ends with one more look."""
        try:
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            watch = self._begin(context)
            watch.cursor = self._position(context)[1] or watch.cursor
            with self._skipping(), self.hook:
                outcome = self._look_before_the_end(watch)
                return self._conclude(watch, replace(outcome, end=outcome.end or End.TIMED_OUT))
        except TaskDeferralError as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    def on_kill(self) -> None:
        """End the following; with ``stop_job_on_kill`` stop the job, unless the task goes on elsewhere."""
        if self._watch is not None:
            self._watch.killed()

    def _begin(self, context: Context) -> JobWatch:
        wire.validate_id(self.job_id, "job")
        if self._watch is None:
            settings = TailSettings(
                sources=SOURCES[self.protocol],
                poll_interval=max(self.poke_interval, 0.5),
                missing_timeout=self.job_missing_timeout,
                unreachable_timeout=self.agent_unreachable_timeout,
                max_line_length=self.max_line_length,
                forward=self.forward_logs,
            )
            self._watch = JobWatch(
                self.hook, self.job_id, self.log, context["ti"], settings, owns=self.stop_job_on_kill
            )
            if self.resume_log:
                self._watch.cursor = _recall(context, same_try=False)
            link = job_link(self)
            if link:
                context["ti"].xcom_push(key=RayAgentJobLink().xcom_key, value=link)
        return self._watch

    def _conclude(self, watch: JobWatch, outcome: Outcome) -> dict[str, Any]:
        if outcome.end is End.TIMED_OUT:
            limit = self.execution_timeout
            if self.deferrable and limit is not None and limit.total_seconds() < self.timeout:
                watch.time_out("execution_timeout", limit.total_seconds(), outcome.job, AirflowTaskTimeout)
            watch.time_out("timeout", self.timeout, outcome.job, RayAgentJobTimeoutError)
        return watch.conclude(outcome)

    # In a worker

    def _follow(self, context: Context, watch: JobWatch) -> Follower:
        self._started = self._started or time.monotonic()
        try:
            return watch.follow(max(self.timeout - (time.monotonic() - self._started), 0.0))
        finally:
            if self.resume_log and watch.cursor:
                _remember(context, watch.cursor)

    def _look(self, context: Context, watch: JobWatch) -> Follower:
        if not self.forward_logs or context.get("task_state_store") is None:
            follower = watch.look()
            return watch.follow() if follower.end is End.JOB_ENDED else follower
        watch.cursor = _recall(context, same_try=not self.resume_log)
        follower = watch.look_at_log()
        _remember(context, follower.cursor)
        return follower

    # Deferred

    def _execute_deferred(self, context: Context) -> Any:
        watch = self._begin(context)
        with self.hook:
            outcome = self._look_before_the_end(watch)
        if outcome.end is not None:
            return self._conclude(watch, outcome)
        self.log.info(
            "The triggerer follows job %s from here on, without a worker; its lines come into this log meanwhile.",
            self.job_id,
        )
        from airflow_provider_rayagent.triggers.position import POSITION_KEY, first_position

        context["ti"].xcom_push(key=POSITION_KEY, value=first_position(context["ti"]))
        seconds = self._seconds()
        return self.defer(
            trigger=self._trigger(deadline=time.time() + seconds, cursor=watch.cursor),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds + TIMEOUT_MARGIN),
        )

    def _seconds(self) -> float:
        """Return for how long the job may be followed."""
        limit = self.execution_timeout
        return min(self.timeout, limit.total_seconds()) if limit else self.timeout

    def _look_before_the_end(self, watch: JobWatch) -> Outcome:
        """Look at the job, and forward its log if it has ended; an outcome without an end means that it goes on."""
        follower = watch.ask()
        if follower.end is End.JOB_ENDED:
            follower = watch.follow()
        outcome = Outcome.of(follower)
        return replace(outcome, end=None) if follower.end is End.TIMED_OUT else outcome

    def _trigger(self, deadline: float | None = None, cursor: Cursor | None = None) -> RayAgentJobTrigger:
        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

        return RayAgentJobTrigger(
            job_id=self.job_id,
            rayagent_conn_id=self.rayagent_conn_id,
            forward_logs=self.forward_logs,
            protocol=self.protocol,
            poll_interval=max(self.poke_interval, 0.5),
            job_missing_timeout=self.job_missing_timeout,
            agent_unreachable_timeout=self.agent_unreachable_timeout,
            max_line_length=self.max_line_length,
            deadline=deadline,
            cursor=cursor.to_json() if cursor else None,
            stop_job_on_kill=self.stop_job_on_kill,
        )

    def _start_from_trigger(self) -> None:
        from airflow.triggers.base import StartTriggerArgs

        if not isinstance(self.job_id, str):
            raise RayAgentInputError(
                "start_from_trigger takes a job_id that is a text or a template, not the result of another task: "
                "write \"{{ ti.xcom_pull('other_task') }}\"."
            )
        path, arguments = self._trigger().serialize()
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            timeout=timedelta(seconds=self._seconds() + TIMEOUT_MARGIN),
        )

    def _take_over(self, context: Context) -> None:
        """Take note of where the trigger came to; repeat the last lines of a failure, whose own log may be lost."""
        saved, cursor = self._position(context)
        if cursor is None:
            return
        if self.resume_log:
            _remember(context, cursor)
        if self.forward_logs:
            self.log.info("The triggerer forwarded %d lines of job %s.", cursor.lines, self.job_id)
        lines = saved.get("last_lines")
        if lines:
            text = self.hook.config.redact("\n".join(lines))
            self.log.info("The last lines of job %s:\n%s", self.job_id, neutralize(text))

    def _position(self, context: Context) -> tuple[Any, Cursor | None]:
        """Return what the triggers of this try saved, and where in the log they came to."""
        from airflow_provider_rayagent.triggers.position import POSITION_KEY, read_cursor

        ti = context["ti"]
        saved = ti.xcom_pull(key=POSITION_KEY, task_ids=ti.task_id, map_indexes=ti.map_index)
        return saved, read_cursor(saved, ti)

    @contextmanager
    def _skipping(self) -> Iterator[None]:
        """Skip the task where ``BaseSensorOperator.execute`` would, deferred too; say why, which Airflow does not."""
        try:
            yield
        except AirflowRescheduleException:
            raise
        except AirflowSkipException as skip:
            self._failed(skip.__cause__)
            raise
        except (Exception, AirflowTaskTimeout) as error:
            name = "soft_fail" if self.soft_fail else "never_fail"
            soft = self.soft_fail and isinstance(
                error, (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException)
            )
            skipped = soft or self.never_fail
            self._failed(error if skipped or isinstance(error, AirflowTaskTimeout) else None)
            if not skipped:
                raise
            raise AirflowSkipException(f"Skipping due to {name} is set to True.") from error

    def _failed(self, error: BaseException | None) -> None:
        if isinstance(error, AirflowTaskTimeout) and self._watch is not None:
            self._watch.stop("The task's execution_timeout is over")
        if error is not None:
            self.log.error("%s", error)


def _recall(context: Context, *, same_try: bool) -> Cursor | None:
    """Return where in the log an earlier look, or an earlier try, has come to."""
    store = context.get("task_state_store")
    saved = store.get(CURSOR_KEY) if store is not None else None
    if not isinstance(saved, dict) or (same_try and saved.get("try_number") != context["ti"].try_number):
        return None
    try:
        return Cursor.from_json(saved["cursor"])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None


def _remember(context: Context, cursor: Cursor) -> None:
    store = context.get("task_state_store")
    if store is not None:
        store.set(CURSOR_KEY, {"try_number": context["ti"].try_number, "cursor": cursor.to_json()})
