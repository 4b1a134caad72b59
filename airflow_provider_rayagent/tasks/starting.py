"""Start a Ray job exactly once for a task, and follow it: shared by the operators that start jobs."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.errors.transience import is_outcome_unknown
from airflow_provider_rayagent.exceptions import (
    RayAgentGPUUnavailableError,
    RayAgentJobNotStartedError,
    RayAgentRunFailedError,
)
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.validation import MAX_DURATION, POLL_SECONDS, validate_choice, validate_duration
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_pull_xcom, try_push_xcom
from airflow_provider_rayagent.tasks.finding import (
    JOB_ID_KEY,
    STATUS_CHECK_SECONDS,
    IfSucceeded,
    JobFinder,
    find_job,
    store_stop,
    store_success,
)
from airflow_provider_rayagent.tasks.following import JobFollowingOperator
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.triggers.outcome import Outcome


class JobStartingOperator(JobFollowingOperator):
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
    :param read_messages: read the job's messages; default on.
    :param stop_job_on_kill: stop the job when a user or ``execution_timeout`` ends the task; default on.

    The other arguments are those of ``JobFollowingOperator``, and of every operator.
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
        poll_interval: timedelta | float = POLL_SECONDS,
        read_result: bool = True,
        read_messages: bool = True,
        stop_job_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            read_result=read_result, read_messages=read_messages, stop_job_on_kill=stop_job_on_kill, **kwargs
        )
        self.job_id = job_id  # type: ignore[assignment]
        self.wait = wait
        self.if_succeeded = validate_choice(if_succeeded, "if_succeeded", get_args(IfSucceeded))
        self.start_timeout = None if start_timeout is None else validate_duration(start_timeout, "start_timeout")
        self.poll_interval = validate_duration(poll_interval, "poll_interval")
        self._has_job_id = False
        """Whether :attr:`job_id` is that of the job, and not the argument any more."""
        self._job_id_argument: str | None = None
        self._resume_env_vars: dict[str, str] = {}
        """What tells a new job of the earlier ones, as environment variables."""

    def _check_job(self, context: Context, job_id: str, job: Mapping[str, Any]) -> None:
        """Check that an existing job may be this task's.

        :raises RayAgentInputError: if it is not.
        """

    def _request_start(self, context: Context) -> str:
        """Send the request that starts the job :attr:`job_id`; return the job's id.

        :raises RayAgentError: if the request failed, or its outcome is unknown.
        """
        raise NotImplementedError

    def _started_work(self) -> str:
        """Return what the job runs, for the task log."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Start the job, or find an existing one, and follow it."""
        with self._handle_errors():
            return self._run_job(context)

    def _run_job(self, context: Context) -> Any:
        with self.hook:
            if self._find_job(context) is None:
                self._start(context, self._ensure_task_job(context))
        if not self.wait:
            return storable(self.job_id)
        # When the job was found or started.
        self._ensure_task_job(context).observer.has_answered = True
        if self.deferrable and not self._is_resumed:
            return self._execute_deferred(context)
        return self._execute_in_worker(context)

    def _poll_seconds(self) -> float:
        return self.poll_interval

    def _find_job(self, context: Context) -> Mapping[str, Any] | None:
        finder = JobFinder(
            self.hook,
            self.log,
            context,
            if_succeeded=self.if_succeeded,
            check=partial(self._check_job, context),
            claim=partial(self._claim, context),
        )
        # Always set: without it, a job in the agent's queue, which the agent does not know, would count as missing
        # after job_missing_timeout (``StatusPolling.missing``).
        self._start_deadline = time.time() + (MAX_DURATION if self.start_timeout is None else self.start_timeout)
        # After the deadline is set, which the task job that it makes has among its options.
        job = finder.find(self.job_id)
        self._found_pending = finder.was_pending
        if job is None:
            self._resume_env_vars = finder.resume_env_vars()
        return job

    def _claim(self, context: Context, job_id: str, *, exists: bool) -> TaskJob:
        """Make a job this task's, and push its id.

        :param exists: whether an earlier try has started it.
        :raises RayAgentError: if the task was killed; then no job may be started, and an existing one is stopped.
        """
        if not exists:
            self._raise_if_killed(job_id)
        if self._task_job is None or self._task_job.job_id != job_id:
            self._use_job_id(context, job_id)
            self._task_job = None
        task_job = self._ensure_task_job(context)
        # A kill before may have found no stopper yet; no job may be started after it.
        if exists and self._is_killed:
            task_job.stopper.on_kill()
        self._raise_if_killed(job_id)
        return task_job

    def _raise_if_killed(self, job_id: str) -> None:
        if self._is_killed:
            if self._task_job is not None:
                # The error ends the process, and with it the thread that requests the stop.
                self._task_job.stopper.wait()
            raise RayAgentError(f"The task was killed while looking for its job {job_id}.", code=Code.START_UNKNOWN)

    def _ensure_task_job(self, context: Context) -> TaskJob:
        if not self._has_job_id:
            # This process resumes a deferred task, and has not looked for the job.
            ti = context["ti"]
            self._set_job_id(try_pull_xcom(ti, JOB_ID_KEY, self.log))
        task_job = super()._ensure_task_job(context)
        task_job.stopper.on_stop_requested = partial(store_stop, context, self.job_id)
        return task_job

    def _resume_job(self, job_id: str | None) -> None:
        super()._resume_job(job_id)
        if job_id is not None:
            self._set_job_id(job_id)

    def _use_job_id(self, context: Context, job_id: str) -> None:
        self._set_job_id(job_id)
        try_push_xcom(context["ti"], JOB_ID_KEY, job_id, self.log)

    def _set_job_id(self, job_id: str) -> None:
        if not self._has_job_id:
            self._job_id_argument, self._has_job_id = self.job_id, True
        self.job_id = job_id

    def _start(self, context: Context, task_job: TaskJob) -> None:
        # Another task instance with the same job_id may start its job first.
        task_job.stopper.check = partial(self._check_job, context, self.job_id)
        try:
            assigned = self._request_start(context)
        except RayAgentGPUUnavailableError as error:
            free = self._free_resources()
            detail = f"{error.detail.rstrip('.')}.{free}" if free else error.detail
            raise RayAgentGPUUnavailableError(detail, error.status_code) from None
        except (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError) as error:
            # The job's own request was not sent, so there is no job to look for.
            if error.is_of_preparation:
                raise
            if error.status_code == CONFLICT:
                self._check_existing(context)
                self.log.info(
                    coded(Code.EXISTING_JOB, "Job %s already exists, started by an earlier request; attaching."),
                    self.job_id,
                )
            # An error status such as 500 does not prove that no job was started.
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
                # Its stopper and its observer have the other id.
                self._task_job = None
                task_job = self._ensure_task_job(context)
            self.log.info("Started job %s: %s.", self.job_id, self._started_work())
        finally:
            task_job.stopper.on_job_started()
        # The job is known to be this task's, and a kill leaves no time for a needless request.
        task_job.stopper.check = None

    def _check_existing(self, context: Context) -> None:
        """Check that the job that exists after the start request is this task's; if not, take back its id."""
        job = find_job(self.hook, self.job_id)
        if job is None:
            return  # A plugin's job in the agent's queue may be unknown to it.
        try:
            self._check_job(context, self.job_id, job)
        except RayAgentInputError:
            # A task downstream must not take, or stop, the job of another task instance.
            try_push_xcom(context["ti"], JOB_ID_KEY, None, self.log)
            raise

    def _required_amounts(self) -> dict[str, float]:
        """Return what the command of the job requires, by the names of :class:`Requirement`, as far as it is known."""
        return {}

    def _free_resources(self) -> str:
        """Return what the job requires and what the cluster has free, for the end of a message."""
        from airflow_provider_rayagent.waits.capacity_wait import shown_amounts, shown_free

        required = self._required_amounts()
        asked = f" Required: {shown_amounts(required)}." if required else ""
        try:
            free = shown_free(self.hook.get_conn().send(self.hook.config.service.get_capacity()))
        except RayAgentError as error:
            self.log.info("The free resources of the cluster are unknown: %s", error.detail)
            return asked
        return f"{asked} {free}".rstrip()

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
                # It may wait in the agent's queue, and must not start when no task follows it.
                task_job.stopper.stop("The job did not appear")
                raise start_error
            time.sleep(STATUS_CHECK_SECONDS)
        self.log.info("Job %s was started.", self.job_id)

    def _conclude(self, context: Context, task_job: TaskJob, outcome: Outcome) -> Any:
        if outcome.end is End.NOT_STARTED:
            waits = self._waits_for_start(context, outcome)
            if not waits:
                task_job.observer.metrics.ended(outcome.end)
                task_job.stopper.stop("The task's start_timeout has expired")
            task_job.seen = outcome.job
            label = self.hook.config.service.label
            redact = self.hook.config.redact
            status = jobs.shown_status(outcome.job, redact) if outcome.job else f"unknown to {label}"
            error = RayAgentJobNotStartedError(
                f"Job {self.job_id} did not start within the start_timeout of {self.start_timeout:g} seconds; it is "
                f"{status}. Check the free resources of the cluster, and the queue of the agent if there is one."
                f"{self._free_resources()}"
            )
            error.is_waited_for = waits
            raise error
        if self._found_pending and _has_status(outcome, JobStatus.STOPPED) and not task_job.stopper.stop_requested:
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
            # The argument, from which the finder derives the next id; the present one is that of the stopped job.
            self.job_id = self._job_id_argument  # type: ignore[assignment]
            return self._run_job(context)
        if self.if_succeeded == "run_again" and _has_status(outcome, JobStatus.SUCCEEDED):
            store_success(context)
        return super()._conclude(context, task_job, outcome)

    def _waits_for_start(self, context: Context, outcome: Outcome) -> bool:
        """Return whether the task will run again in the same try, and so keeps a job that is PENDING."""
        from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy
        from airflow_provider_rayagent.render.failure_kinds import FailureKind

        # Before Airflow 3.3 there are no retry policies.
        policy = getattr(self, "retry_policy", None)
        # A job in an agent's queue, unknown to the agent, could not be found again.
        return (
            isinstance(policy, RayAgentRetryPolicy)
            and outcome.job is not None
            and policy.waits_for(FailureKind.START_TIMEOUT, context)
        )


def _has_status(outcome: Outcome, status: JobStatus) -> bool:
    return outcome.job is not None and jobs.known_status(outcome.job) is status
