"""Base of the operators that start a job and follow it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError, RayAgentRunFailedError
from airflow_provider_rayagent.run.job_finder import JOB_ID_KEY, IfSucceeded, store_end, store_stop
from airflow_provider_rayagent.run.resume_key import store_success
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.validation import MAX_DURATION, POLL_SECONDS, validate_choice, validate_duration
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_pull_xcom
from airflow_provider_rayagent.tasks.following import JobFollowingOperator
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.run.job_run import JobRun
    from airflow_provider_rayagent.run.job_start import JobWork
    from airflow_provider_rayagent.run.outcome import Outcome


LOST = "LOST"
"""Stored instead of a status for a job that is gone, perhaps with its cluster."""


class JobStartingOperator(JobFollowingOperator):
    """Base of :class:`.RayAgentSubmitJobOperator` and :class:`.RayAgentRunPluginOperator`: start a job and follow it.

    The job id is derived from the DAG, the run, the task, the map index and the iteration of a loop. So a retry, a
    cleared task or a task whose worker died finds its job again instead of starting a second one.

    :param job_id: your own id instead of the derived one, up to 90 characters; it must be unique per run and per
        iteration of a loop. (templated)
    :param wait: follow the job to its end.
    :param if_succeeded: if a job of this task has already succeeded: ``reuse`` its result, or ``run_again``. The latter
        also runs again if a worker died after the job had succeeded.
    :param start_timeout: seconds for which the job may wait before it starts: PENDING on Ray, in an agent's queue,
        where it can be unknown to the agent, or for its ``cluster``, if that is not there yet. Then the task fails, and
        stops the job if ``stop_job_on_kill``. ``None``: no limit.
    :param poll_interval: seconds between two status checks, less while the job writes.
    :param read_result: see :class:`.JobFollowingOperator`; default on.
    :param read_messages: read the job's messages; default on.
    :param stop_job_on_kill: stop the job when a user or ``execution_timeout`` ends the task; default on.

    The other arguments are those of :class:`.JobFollowingOperator`, and Airflow's ``BaseOperator``.
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
        read_result: bool | Literal["required"] = True,
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

    def _work(self, context: Context) -> JobWork:
        """Return the work for which the task has a job."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Start the job, or find an existing one, and follow it."""
        self._run = None
        with self._handle_errors():
            return self._run_job(context)

    def _run_job(self, context: Context, *, is_resumed: bool = False) -> Any:
        from airflow_provider_rayagent.run.job_start import JobStart

        # Always set: without it, a job in the agent's queue, which the agent does not know, would count as missing
        # after job_missing_timeout (``StatusPolling.missing``).
        start_timeout = MAX_DURATION if self.start_timeout is None else self.start_timeout
        deadline = time.time() + start_timeout
        work = self._work(context)
        with self.hook:
            start = JobStart(
                self.hook,
                context,
                self.log,
                work,
                if_succeeded=self.if_succeeded,
                missing_timeout=self.job_missing_timeout,
                unreachable_timeout=self.agent_unreachable_timeout,
                start_timeout=start_timeout,
                config_of=lambda cluster: self._hook_of(cluster).config,
                describe_free=partial(self._free_resources, work.required),
                new_run=partial(self._new_run, context, start_deadline=deadline, is_resumed=is_resumed),
                raise_if_killed=self._raise_if_killed,
            )
            run = start.run(self.job_id)
        if not self.wait:
            return storable(run.job_id)
        # When the job was found or started.
        run.observer.has_answered = True
        if self.deferrable and not is_resumed:
            return self._follow_deferred(context, run)
        return self._follow_in_worker(context, run)

    def _poll_seconds(self) -> float:
        return self.poll_interval

    def _new_run(self, context: Context, job_id: str, **facts: Any) -> JobRun:
        return super()._new_run(
            context, job_id, on_stop_requested=partial(store_stop, context, job_id, self.cluster), **facts
        )

    def _resumed_run(self, context: Context, job_id: str | None = None, **facts: bool) -> JobRun:
        return super()._resumed_run(context, job_id or try_pull_xcom(context["ti"], JOB_ID_KEY, self.log), **facts)

    def _raise_if_killed(self, job_id: str | None = None) -> None:
        if self._killed.is_set():
            if self._run is not None:
                # The error ends the process, and with it the thread that requests the stop.
                self._run.stopper.wait()
            its_job = "its job" if job_id is None else f"its job {job_id}"
            raise RayAgentError(f"The task was killed while looking for {its_job}.", code=Code.START_UNKNOWN)

    def _free_resources(self, required: Mapping[str, float]) -> str:
        """Return what the job requires and what the cluster has free, for the end of a message."""
        from airflow_provider_rayagent.waits.capacity_wait import shown_amounts, shown_free

        asked = f" Required: {shown_amounts(required)}." if required else ""
        try:
            free = shown_free(self.hook.get_conn().send(self.hook.config.service.get_capacity()))
        except RayAgentError as error:
            self.log.info("The free resources of the cluster are unknown: %s", error.detail)
            return asked
        return f"{asked} {free}".rstrip()

    def _why(self, context: Context, job_id: str, job: Mapping[str, Any] | None) -> str:
        """Return why a job waits, for the end of a message."""
        from airflow_provider_rayagent.run.wait_watch import reason_of_wait

        reason = reason_of_wait(self.hook.config, job_id, job) if job else None
        if reason is not None and not reason.is_momentary:
            return f": {reason.text}."
        check = "Check the free resources of the cluster, and the queue of the agent if there is one."
        return f". {check}{self._free_resources(self._work(context).required)}"

    def _conclude(self, context: Context, run: JobRun, outcome: Outcome) -> Any:
        if outcome.end is End.NOT_STARTED:
            waits = self._waits_for_start(context, outcome)
            if not waits:
                run.observer.metrics.ended(outcome.end)
                run.stopper.stop("The task's start_timeout has expired")
            run.seen = outcome.job
            label = self.hook.config.service.label
            redact = self.hook.config.redact
            status = jobs.shown_status(outcome.job, redact) if outcome.job else f"unknown to {label}"
            error = RayAgentJobNotStartedError(
                f"Job {run.job_id} did not start within the start_timeout of {self.start_timeout:g} seconds; it is "
                f"{status}{self._why(context, run.job_id, outcome.job)}"
            )
            error.is_waited_for = waits
            raise error
        if run.found_pending and _has_status(outcome, JobStatus.STOPPED) and not run.stopper.stop_requested:
            run.observer.metrics.ended(outcome.end, outcome.job)
            self.log.info(
                # As an earlier attempt may have requested: Ray stops a PENDING job when it starts.
                coded(
                    Code.EXISTING_JOB,
                    "Job %s was PENDING when this attempt found it, and is STOPPED now; starting a new job.",
                ),
                run.job_id,
            )
            return self._run_job(context, is_resumed=run.is_resumed)
        if self.cluster is not None:
            self._store_end(context, run.job_id, outcome)
        if self.if_succeeded == "run_again" and _has_status(outcome, JobStatus.SUCCEEDED):
            store_success(context)
        return super()._conclude(context, run, outcome)

    def _store_end(self, context: Context, job_id: str, outcome: Outcome) -> None:
        """Store that the job needs no stop if a later try has another cluster."""
        if outcome.end is End.JOB_ENDED and outcome.job is not None:
            store_end(context, job_id, jobs.shown_status(outcome.job, self.hook.config.redact))
        elif outcome.end in (End.JOB_MISSING, End.CLUSTER_GONE):
            store_end(context, job_id, LOST)

    def _waits_for_start(self, context: Context, outcome: Outcome) -> bool:
        """Return whether the task will run again in the same try, and so keeps a job that is PENDING."""
        from airflow_provider_rayagent.failures.failure_kinds import FailureKind
        from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

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
