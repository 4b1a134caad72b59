"""Sensors that follow a Ray job to its end, and that wait for a Serve application."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentJobTimeoutError
from airflow_provider_rayagent.sensors.applications import RayAgentServeApplicationSensor
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.following import POLL_INTERVAL, RayAgentJobFollowingMixin
from airflow_provider_rayagent.tasks.skipping import SkippingMixin
from airflow_provider_rayagent.triggers.outcome import deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_provider_rayagent.tasks.job import TaskJob

__all__ = ["RayAgentJobSensor", "RayAgentServeApplicationSensor"]

RESCHEDULE_INTERVAL = 60.0


class RayAgentJobSensor(SkippingMixin, RayAgentJobFollowingMixin, BaseSensorOperator):
    """Follow a Ray job: forward its log, line by line, to the task log until the job has ended.

    The task succeeds exactly when the job does. A job that FAILED or was STOPPED fails the task without a retry,
    since a job that has ended stays as it is. The final details of the job go to XCom (``return_value``), also when
    the task fails: ``job_id`` (the argument's), ``submission_id``, ``driver_job_id`` (Ray's id of the job's driver),
    ``type``, ``status``, ``message``, ``error_type``, ``entrypoint``, ``start_time`` and ``end_time`` (ms since the
    epoch), ``duration`` (seconds), ``driver_exit_code``, ``driver_node_id``, ``metadata``; with ``read_result`` and
    success, ``result``. The events of assets among the task's ``outlets`` carry ``job_id`` and ``duration``.

    In ``mode="reschedule"`` the worker slot is free between two looks; each look forwards what is new in the log.
    (Before Airflow 3.3 a task keeps no state between looks, so that the log is forwarded when the job has ended.)

    :param job_id: the job's id (Ray's submission id). (templated)
    :param poke_interval: seconds between two looks at the job's status; default 5, or 60 in ``mode="reschedule"``,
        where less than 5 can hit a race in Airflow's scheduler.
    :param start_from_trigger: defer without a worker having run at all; not for mapped tasks.

    The arguments of :class:`~airflow_provider_rayagent.tasks.following.RayAgentJobFollowingMixin` say how the log is
    shown, and whether the job is followed in the triggerer (``deferrable``; ``mode`` has no effect then). ``timeout``,
    ``soft_fail``, ``mode`` and the other arguments are those of every sensor; ``timeout`` covers the whole time that
    the job is followed.
    """

    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        job_id: str,
        poke_interval: timedelta | float | None = None,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=POLL_INTERVAL if poke_interval is None else poke_interval, **kwargs)
        self.job_id = job_id
        self.deferrable = self.deferrable or start_from_trigger
        if poke_interval is None and self.reschedule and not self.deferrable:
            self.poke_interval = RESCHEDULE_INTERVAL
        self._started: float | None = None
        if start_from_trigger:
            self._start_from_trigger()

    def execute(self, context: Context) -> Any:
        """Follow the job, here or deferred; ``timeout`` counts from here."""
        self._task_job = self._started = None
        if self.start_from_trigger and context["ti"].map_index not in (None, -1):
            raise RayAgentInputError(
                "start_from_trigger cannot be used with a mapped task: Airflow starts it in a worker all the same. "
                "Leave start_from_trigger out; deferrable=True alone frees the worker after a few seconds."
            )
        with self._ending():
            return self._execute_deferred(context) if self.deferrable else super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Follow the job to its end; in ``mode="reschedule"`` look once."""
        task_job = self._begin(context)
        with self.hook:
            if self.reschedule:
                outcome = self._look(context, task_job)
            else:
                outcome = self._follow(context, task_job, self._seconds_left(context))
        if outcome.end is End.LOOKED and self._seconds_left(context) <= 0:
            # Airflow would end the task just after this, without a word to the job.
            self._time_out(task_job, outcome.job)
        if outcome.end is End.LOOKED or outcome.end is None:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, task_job, outcome))

    def _poll_seconds(self) -> float:
        return float(self.poke_interval)

    def _seconds(self) -> float:
        limit = self.execution_timeout
        return min(self.timeout, limit.total_seconds()) if limit else self.timeout

    def _seconds_left(self, context: Context) -> float:
        if self.reschedule:
            first = context["ti"].get_first_reschedule_date(context)
            gone = (datetime.now(tz=timezone.utc) - first).total_seconds() if first else 0.0
        else:
            self._started = self._started or time.monotonic()
            gone = time.monotonic() - self._started
        return max(self.timeout - gone, 0.0)

    def _time_out(self, task_job: TaskJob, job: Mapping[str, Any] | None) -> None:
        if self.deferrable and self._seconds() < self.timeout:
            super()._time_out(task_job, job)
        task_job.time_out("timeout", self.timeout, job, RayAgentJobTimeoutError)

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
            timeout=deferral_timeout(self._seconds()),
        )
