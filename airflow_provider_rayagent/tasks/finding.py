"""Find the Ray job of a task again after a retry, a clear, or the death of its worker."""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentNotFoundError
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.validation import MAX_DURATION
from airflow_provider_rayagent.tasks.following import JobFollowingOperator
from airflow_provider_rayagent.tasks.job_ids import derived_id, numbered, validate_base_id
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_provider_rayagent.tasks.job import TaskJob

IfSucceeded = Literal["reuse", "run_again"]

JOB_ID_KEY = "job_id"
BASE_ID_KEY = "rayagent_job_root"
"""Key in the task state store: the base id of the task's jobs, without numeric suffix."""
STOPPED_KEY = "rayagent_stopped_job"
"""Key in the task state store: the last job whose stop the task has requested."""
STOP_SECONDS = 6.0
"""How long a job can still be RUNNING after a stop request; Ray sends SIGKILL after 3 seconds."""
STATUS_CHECK_SECONDS = 0.5


class JobFindingOperator(JobFollowingOperator):
    """Base class of operators that own a job, whose id tells which task it belongs to.

    Their jobs have ids that end with a number: each time that a new job is started, it gets the next one.
    """

    if_succeeded: IfSucceeded
    start_timeout: float | None
    _has_job_id = False
    _job_id_argument: str | None = None
    """:attr:`job_id` before it became the id of the job."""

    def _check_job(self, context: Context, job_id: str, job: Mapping[str, Any]) -> None:
        """Check that an existing job may be this task's.

        :raises RayAgentInputError: if it is not.
        """

    def _ensure_task_job(self, context: Context) -> TaskJob:
        if not self._has_job_id:
            from airflow_provider_rayagent.task_instance.identity import TaskIdentity

            ti = context["ti"]
            self._set_job_id(TaskIdentity.of(ti).pull(ti, JOB_ID_KEY))
        task_job = super()._ensure_task_job(context)
        task_job.stopper.on_stop_requested = partial(self._remember_stop, context, self.job_id)
        return task_job

    def _set_job_id(self, job_id: str) -> None:
        if not self._has_job_id:
            self._job_id_argument, self._has_job_id = self.job_id, True
        self.job_id = job_id

    def _find_job(self, context: Context) -> Mapping[str, Any] | None:
        """Choose this task's job and push its id; return its details, ``None`` if it has to be started."""
        is_derived = not self.job_id
        base_ids = self._derived_base_ids(context) if is_derived else [self.job_id]
        self._start_deadline = time.time() + (MAX_DURATION if self.start_timeout is None else self.start_timeout)
        for base_id in map(validate_base_id, base_ids):
            job_id, job = self._find_latest(context, base_id)
            if job is not None:
                break
        self._claim(context, job_id)
        if is_derived:
            # Later tries find their job after the namespace has changed.
            self._remember(context, BASE_ID_KEY, base_id)
        return job

    def _derived_base_ids(self, context: Context) -> list[str]:
        """Return the base ids that this task's job may have; a new job gets the last one."""
        from airflow_provider_rayagent.task_instance.identity import deployment_namespace, job_key

        key, namespace = job_key(context), self.hook.config.job_namespace or deployment_namespace()
        remembered = self._remembered(context, BASE_ID_KEY)
        if isinstance(remembered, str):
            return [remembered]
        # A version without namespaces may have started the job of an earlier try.
        without = [derived_id(key)] if namespace and context["ti"].try_number > 1 else []
        return [*without, derived_id(key, namespace)]

    def _remember(self, context: Context, key: str, value: str) -> None:
        """Store something for later tries (Airflow 3.3)."""
        store = context.get("task_state_store")
        if store is not None:
            store.set(key, storable(value))

    def _remember_stop(self, context: Context, job_id: str) -> None:
        from airflow.sdk.exceptions import AirflowRuntimeError

        try:
            self._remember(context, STOPPED_KEY, job_id)
        except AirflowRuntimeError:
            # Airflow lets a task that was cleared store nothing: it has a new one in its place by then.
            self.log.debug("The stop of job %s is not stored.", job_id, exc_info=True)

    def _remembered(self, context: Context, key: str) -> object:
        store = context.get("task_state_store")
        return None if store is None else store.get(key)

    def _find_latest(self, context: Context, base_id: str) -> tuple[str, Mapping[str, Any] | None]:
        """Return id and details of the latest job under a base id; the details are ``None`` if it does not exist."""
        for number in count(1):
            job_id = numbered(base_id, number)
            job = self._get_settled_job(context, job_id)
            if job is None:
                break
            if not jobs.has_ended(job) and self._remembered(context, STOPPED_KEY) == job_id:
                # Ray applies the stop of a PENDING job when the job starts.
                self.log.info(
                    coded(
                        Code.EXISTING_JOB,
                        "Job %s of this task is still %s, but an earlier attempt has stopped it; starting a new job.",
                    ),
                    job_id,
                    self._status(job),
                )
            elif self._is_reusable(job_id, job):
                break
        return job_id, job

    def _claim(self, context: Context, job_id: str) -> TaskJob:
        """Make a job this task's, and push its id.

        :raises RayAgentError: if the task was killed; then no job may be started.
        """
        self._raise_if_killed(job_id)
        if self._task_job is None or self._task_job.job_id != job_id:
            self._use_job_id(context, job_id)
            self._task_job = None
        task_job = self._ensure_task_job(context)
        self._raise_if_killed(job_id)
        return task_job

    def _raise_if_killed(self, job_id: str) -> None:
        if self._is_killed:
            if self._task_job is not None:
                self._task_job.stopper.wait()
            raise RayAgentError(f"The task was killed while looking for its job {job_id}.", code=Code.START_UNKNOWN)

    def _use_job_id(self, context: Context, job_id: str) -> None:
        self._set_job_id(job_id)
        context["ti"].xcom_push(key=JOB_ID_KEY, value=storable(job_id))

    def _get_settled_job(self, context: Context, job_id: str) -> Mapping[str, Any] | None:
        """Return a job's details, after waiting for the effect of a stop that an earlier try may have requested."""
        job = self._get_job(job_id)
        if job is not None:
            self._check_job(context, job_id, job)
        if job is None or jobs.has_ended(job):
            return job
        self.log.info(
            coded(
                Code.EXISTING_JOB,
                "Job %s of this task is %s; waiting up to %g s in case an earlier attempt requested a stop.",
            ),
            job_id,
            self._status(job),
            STOP_SECONDS,
        )
        # Claim it now: if the task is killed meanwhile, this is the job to stop.
        task_job = self._claim(context, job_id)
        until = time.monotonic() + STOP_SECONDS
        while job is not None and not jobs.has_ended(job) and time.monotonic() < until:
            if task_job.stopper.task_is_killed.wait(STATUS_CHECK_SECONDS):
                break
            job = self._get_job(job_id)
        return job

    def _get_job(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            return self.hook.get_job(job_id)
        except RayAgentNotFoundError:
            return None

    def _is_reusable(self, job_id: str, job: Mapping[str, Any]) -> bool:
        status = self._status(job)
        if not jobs.has_ended(job):
            self.log.info(
                coded(Code.EXISTING_JOB, "Job %s of this task already exists (%s); attaching."), job_id, status
            )
            self._found_pending = jobs.known_status(job) is JobStatus.PENDING
            return True
        if jobs.known_status(job) is JobStatus.SUCCEEDED and self.if_succeeded == "reuse":
            self.log.info(
                coded(Code.EXISTING_JOB, "Job %s of this task has already succeeded; reusing its result."), job_id
            )
            return True
        self.log.info(coded(Code.EXISTING_JOB, "Job %s of this task ended as %s; starting a new job."), job_id, status)
        return False

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)
