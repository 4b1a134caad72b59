"""Sensors that follow a Ray job to its end, and wait for a Serve application or for free resources."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentJobTimeoutError
from airflow_provider_rayagent.sensors.application_sensor import RayAgentServeApplicationSensor
from airflow_provider_rayagent.sensors.capacity_sensor import RayAgentCapacitySensor
from airflow_provider_rayagent.sensors.rescheduling import ReschedulingSensor
from airflow_provider_rayagent.services.validation import POLL_SECONDS
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.following import JobFollowingOperator
from airflow_provider_rayagent.tasks.skipping import SkippingMixin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_provider_rayagent.metrics.names import Mode
    from airflow_provider_rayagent.run.job_run import JobRun

__all__ = ["RayAgentCapacitySensor", "RayAgentJobSensor", "RayAgentServeApplicationSensor"]

RESCHEDULE_INTERVAL = 60.0


# In this order, SkippingMixin wraps the methods of the others, and DeferringOperator.resume_execution replaces that
# of BaseSensorOperator.
class RayAgentJobSensor(SkippingMixin, JobFollowingOperator, ReschedulingSensor):
    """Follow a Ray job: forward its log to the task log, line by line, until the job has ended.

    The task succeeds exactly when the job does. If the job FAILED or was STOPPED, the task fails without a retry, since
    the outcome of a job is final. The final details of the job go to XCom (``return_value``), even if the task fails:
    ``job_id`` (the argument), ``submission_id``, ``driver_job_id`` (Ray's id of the job's driver), ``type``,
    ``status``, ``message``, ``error_type``, ``entrypoint``, ``start_time`` and ``end_time`` (ms since the epoch),
    ``duration`` (seconds), ``driver_exit_code``, ``driver_node_id``, ``metadata``; on success with ``read_result`` also
    ``result``. The events of assets among the task's ``outlets`` carry ``job_id`` and ``duration``.

    With ``mode="reschedule"`` the worker slot is free between two pokes; each poke forwards the new lines of the log.
    (Before Airflow 3.3 a task keeps no state between pokes, so the log is forwarded when the job has ended.) Then
    nothing is said of a job that waits or is silent.

    .. code-block:: python

        from datetime import timedelta

        from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

        follow = RayAgentJobSensor(
            task_id="follow",
            job_id="train-20260131",
            timeout=timedelta(hours=6),
            deferrable=True,
        )

    :param job_id: id of the job (Ray's submission id). (templated)
    :param poke_interval: seconds between two status checks, less while the job writes; default 5, or 60 with
        ``mode="reschedule"``, where it is at least 10: Airflow fails some tasks that are rescheduled sooner.

    The other arguments are those of :class:`.JobFollowingOperator`, and Airflow's ``BaseSensorOperator``. ``timeout``
    covers the whole time that the job is followed; ``mode`` has no effect with ``deferrable``.
    """

    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        job_id: str,
        poke_interval: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=POLL_SECONDS if poke_interval is None else poke_interval, **kwargs)
        self.job_id = job_id
        if poke_interval is None and self.reschedule and not self.deferrable:
            self.poke_interval = RESCHEDULE_INTERVAL
        if self.stall_timeout is not None and self._mode() == "rescheduled":
            raise RayAgentInputError(
                "stall_timeout requires that the job is followed all the time: use deferrable=True or mode='poke'."
            )
        self._started: float | None = None

    def execute(self, context: Context) -> Any:
        """Follow the job, here or deferred; ``timeout`` counts from here."""
        self._run = self._started = None
        with self._handle_errors():
            if self.deferrable:
                return self._follow_deferred(context, self._new_run(context, self.job_id))
            return super().execute(context)

    def _follow_in_worker(self, context: Context, run: JobRun) -> Any:  # noqa: ARG002 - that of poke()
        return super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Follow the job to its end; with ``mode="reschedule"``, check it once."""
        run = self._run or self._new_run(context, self.job_id)
        seconds = self._seconds_left(context)
        with self.hook:
            outcome = run.poke(seconds) if self.reschedule else run.follow(seconds)
        if outcome.end is End.CHECKED_ONCE and self._seconds_left(context) <= 0:
            # Airflow would fail the task right after this poke, without stopping the job.
            self._time_out(run, outcome.job)
        # There is no end if the task is being killed.
        if outcome.end is End.CHECKED_ONCE or outcome.end is None:
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, run, outcome))

    def _expected_job(self) -> Mapping[str, Any]:
        return {"job_id": self.job_id}

    def _mode(self) -> Mode:
        return "rescheduled" if self.reschedule and not self.deferrable else super()._mode()

    def _poll_seconds(self) -> float:
        return float(self.poke_interval)

    def _time_limit(self) -> float:
        return self._within_execution_timeout(self.timeout)

    def _seconds_left(self, context: Context) -> float:
        if self.reschedule:
            # As BaseSensorOperator.execute does, which compares this date with the timeout, too.
            first = context["ti"].get_first_reschedule_date(context)
            elapsed = (datetime.now(tz=timezone.utc) - first).total_seconds() if first else 0.0
        else:
            self._started = self._started or time.monotonic()
            elapsed = time.monotonic() - self._started
        return max(self.timeout - elapsed, 0.0)

    def _time_out(self, run: JobRun, job: Mapping[str, Any] | None) -> None:
        # Airflow enforces no execution_timeout while a task is deferred, so the trigger's deadline includes it.
        if self.deferrable and self._time_limit() < self.timeout:
            super()._time_out(run, job)
        run.time_out("timeout", self.timeout, job, RayAgentJobTimeoutError)
