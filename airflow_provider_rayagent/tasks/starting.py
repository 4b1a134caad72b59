"""Start a Ray job exactly once for a task, and follow it: shared by the operators that start jobs."""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import (
    CONFLICT,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.client.jobs import JobStatus
from airflow_provider_rayagent.client.transience import is_outcome_unknown
from airflow_provider_rayagent.client.validation import MAX_DURATION, validate_choice, validate_duration
from airflow_provider_rayagent.exceptions import (
    RayAgentGPUUnavailableError,
    RayAgentJobMissingError,
    RayAgentJobNotStartedError,
    RayAgentRunFailedError,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.following import POLL_INTERVAL, RayAgentJobFollowingMixin
from airflow_provider_rayagent.tasks.job_ids import derived_id, numbered, validate_base_id
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.client.jobs import JobSummary
    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.triggers.outcome import Outcome

IfSucceeded = Literal["reuse", "run_again"]

JOB_ID_KEY = "job_id"
BASE_ID_KEY = "rayagent_job_root"
"""Key in the task state store: the base id of the task's jobs, without numeric suffix."""
STOPPED_KEY = "rayagent_stopped_job"
"""Key in the task state store: the last job whose stop the task has requested."""
STOP_SECONDS = 6.0
"""How long a job can still be RUNNING after a stop request; Ray sends SIGKILL after 3 seconds."""
STATUS_CHECK_SECONDS = 0.5


class RayAgentJobStartingOperator(RayAgentJobFollowingMixin):
    """Base class of operators that start a job and follow it to its end.

    The job id is derived from the DAG, the run, the task, the map index and the iteration of a loop. So a retry, a
    cleared task or a task whose worker died finds its job again instead of starting a second one.

    :param job_id: your own id instead of the derived one, up to 90 characters; it must be unique per run and per
        iteration of a loop. (templated)
    :param wait: follow the job to its end.
    :param if_succeeded: if a job of this task has already succeeded: ``reuse`` its result, or ``run_again``. The latter
        also runs again if a worker died after the job had succeeded.
    :param start_timeout: seconds for which the job may wait before it starts: PENDING on Ray, or in an agent's queue,
        where it can be unknown to the agent. Then the task fails, and stops the job if ``stop_job_on_kill``. ``None``:
        no limit.
    :param poll_interval: seconds between two status checks, less while the job writes.
    :param read_result: read the job's result between ``result_markers``; default on.
    :param stop_job_on_kill: stop the job when a user or ``execution_timeout`` ends the task; default on.

    The other arguments are those of ``RayAgentJobFollowingMixin``, and of every operator.
    """

    ui_color = "#e2f0d9"
    _failed_error = RayAgentRunFailedError
    # Here ``read_result`` is the default, for jobs without a result as well.
    _result_is_expected = False

    def __init__(
        self,
        *,
        job_id: str | None = None,
        wait: bool = True,
        if_succeeded: IfSucceeded = "reuse",
        start_timeout: timedelta | float | None = 3600.0,
        poll_interval: timedelta | float = POLL_INTERVAL,
        read_result: bool = True,
        stop_job_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(read_result=read_result, stop_job_on_kill=stop_job_on_kill, **kwargs)
        self.job_id = job_id  # type: ignore[assignment]
        self.wait = wait
        self.if_succeeded = validate_choice(if_succeeded, "if_succeeded", get_args(IfSucceeded))
        self.start_timeout = None if start_timeout is None else validate_duration(start_timeout, "start_timeout")
        self.poll_interval = validate_duration(poll_interval, "poll_interval")
        self._has_job_id = False
        self._job_id_argument: str | None = None
        """:attr:`job_id` before it became the id of the job."""

    def _request_start(self, context: Context) -> str:
        """Send the request that starts the job :attr:`job_id`; return the job's id.

        :raises RayAgentError: if the request failed, or its outcome is unknown.
        """
        raise NotImplementedError

    def _check_job(self, context: Context, job_id: str, job: Mapping[str, Any]) -> None:
        """Check that an existing job may be this task's.

        :raises RayAgentInputError: if it is not.
        """

    def _started_work(self) -> str:
        """Return what the job runs, for the task log."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Start the job, or find an existing one, and follow it."""
        with self._handle_errors():
            return self._run_job(context)

    def _run_job(self, context: Context) -> Any:
        with self.hook:
            job = self._find_job(context)
            task_job = self._ensure_task_job(context)
            if job is None:
                task_job = self._start(context, task_job)
        if not self.wait:
            return storable(self.job_id)
        if self.deferrable:
            return self._execute_deferred(context)
        with self.hook:
            return self._conclude(context, task_job, self._follow(context, task_job))

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

    def _poll_seconds(self) -> float:
        return self.poll_interval

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

    def _start(self, context: Context, task_job: TaskJob) -> TaskJob:
        # Another task instance with the same job_id may start its job first.
        task_job.stopper.check = partial(self._check_job, context, self.job_id)
        try:
            assigned = self._request_start(context)
        except RayAgentGPUUnavailableError as error:
            free = self._free_resources()
            detail = f"{error.detail.rstrip('.')}.{free}" if free else error.detail
            raise RayAgentGPUUnavailableError(detail, error.status_code) from None
        except (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError) as error:
            if error.is_of_preparation:
                raise
            if error.status_code == CONFLICT:
                self._check_existing(context)
                self.log.info(
                    coded(Code.EXISTING_JOB, "Job %s already exists, started by an earlier request; attaching."),
                    self.job_id,
                )
            elif is_outcome_unknown(error) or self._job_exists():
                self._wait_until_known(task_job, error)
                self._check_existing(context)
            else:
                raise
        else:
            if assigned != self.job_id:
                self.log.warning(
                    coded(
                        Code.OTHER_JOB_ID,
                        "The agent assigned the job id %s instead of %s; another try will not find this job.",
                    ),
                    assigned,
                    self.job_id,
                )
                self._use_job_id(context, assigned)
                self._task_job = None
                task_job = self._ensure_task_job(context)
            self.log.info("Started job %s: %s.", self.job_id, self._started_work())
        finally:
            task_job.stopper.on_job_started()
        task_job.stopper.check = None
        return task_job

    def _check_existing(self, context: Context) -> None:
        """Check that the job that exists after the start request is this task's; if not, take back its id."""
        job = self._get_job(self.job_id)
        if job is None:
            return  # A plugin's job in the agent's queue may be unknown to it.
        try:
            self._check_job(context, self.job_id, job)
        except RayAgentInputError:
            context["ti"].xcom_push(key=JOB_ID_KEY, value=storable(None))
            raise

    def _required_amounts(self) -> dict[str, float]:
        """Return what the command of the job requires, by the names of :class:`Requirement`, as far as it is known."""
        return {}

    def _free_resources(self) -> str:
        """Return what the job requires and what the cluster has free, for the end of a message."""
        from airflow_provider_rayagent.client.capacity_wait import shown_amounts, shown_free

        required = self._required_amounts()
        asked = f" Required: {shown_amounts(required)}." if required else ""
        try:
            free = shown_free(self.hook.get_conn().send(self.hook.config.service.get_capacity()))
        except RayAgentError as error:
            self.log.info("The free resources of the cluster are unknown: %s", error.detail)
            return asked
        return f"{asked} {free}".rstrip()

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)

    def _job_exists(self) -> bool:
        try:
            self.hook.get_job(self.job_id)
        except RayAgentError:
            return False
        return True

    def _wait_until_known(self, task_job: TaskJob, start_error: RayAgentError) -> None:
        """Wait for a job after a start request with an unknown outcome."""
        self.log.warning(
            coded(Code.START_UNKNOWN, "Not known yet whether job %s was started: %s"),
            self.job_id,
            start_error.detail,
        )
        until = time.monotonic() + self.job_missing_timeout
        while not self._job_exists():
            if time.monotonic() >= until:
                task_job.stopper.stop("The job did not appear")
                raise start_error
            time.sleep(STATUS_CHECK_SECONDS)
        self.log.info("Job %s was started.", self.job_id)

    def _conclude(self, context: Context, task_job: TaskJob, outcome: Outcome) -> JobSummary:
        if outcome.end is End.NOT_STARTED:
            task_job.observer.metrics.ended(outcome.end)
            task_job.stopper.stop("The task's start_timeout has expired")
            noun = self.hook.config.service.noun
            status = self._status(outcome.job) if outcome.job else f"unknown to {noun}"
            raise RayAgentJobNotStartedError(
                f"Job {self.job_id} did not start within the start_timeout of {self.start_timeout:g} seconds; it is "
                f"{status}. Check the free resources of the cluster, and the queue of the agent if there is one."
                f"{self._free_resources()}"
            )
        is_stopped = outcome.job is not None and jobs.known_status(outcome.job) is JobStatus.STOPPED
        if self._found_pending and is_stopped and not task_job.stopper.stop_requested:
            task_job.observer.metrics.ended(outcome.end, outcome.job)
            self.log.info(
                # As an earlier attempt may have requested: Ray stops a PENDING job when it starts.
                coded(
                    Code.EXISTING_JOB,
                    "Job %s was PENDING when this attempt found it, and is STOPPED now; starting a new job.",
                ),
                self.job_id,
            )
            self._found_pending = self._has_job_id = False
            self.job_id = self._job_id_argument  # type: ignore[assignment]
            summary: JobSummary = self._run_job(context)
            return summary
        try:
            return super()._conclude(context, task_job, outcome)
        except RayAgentJobMissingError:
            task_job.stopper.stop("The job does not exist")
            raise
