"""The job of a task in a worker: observe it, stop it, and turn its outcome into the task's."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_rayagent.connection.page_urls import JOB_PAGE
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.exceptions import (
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
)
from airflow_provider_rayagent.links.job_links import JobLinks
from airflow_provider_rayagent.links.rayagent import push_links
from airflow_provider_rayagent.metrics.job_metrics import JobMetrics
from airflow_provider_rayagent.render.failure_kinds import kind_of_job
from airflow_provider_rayagent.render.reasons import code_of_job, explain
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.job_secrets import secrets_of
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.task_instance.xcoms import try_push_xcom
from airflow_provider_rayagent.tasks.observer import JobObserver
from airflow_provider_rayagent.tasks.printed_output import PrintedOutput
from airflow_provider_rayagent.tasks.stopper import JobStopper
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.triggers.message_xcoms import MessageXComs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.metrics.names import Mode
    from airflow_provider_rayagent.services.jobs import JobSummary
    from airflow_provider_rayagent.tail.cursor import LogPosition
    from airflow_provider_rayagent.triggers.follow_options import FollowOptions
    from airflow_provider_rayagent.triggers.outcome import Outcome


@dataclass
class TaskJob:
    """One job and the task that follows it.

    :param log: the task's logger.
    :param ti: the task instance.
    :param output: what the job prints for Airflow.
    :param xcoms: pushes what its messages state.
    :param links: the pages about the job.
    :param expires: ``time.monotonic()`` at which the task's ``execution_timeout`` has expired.
    :param failed_error: the error to raise for a FAILED job.
    :param seen: the details of the job when the task has ended, as far as they are known.
    """

    hook: RayAgentHook
    job_id: str
    log: Any
    ti: Any
    observer: JobObserver
    stopper: JobStopper
    output: PrintedOutput
    xcoms: MessageXComs
    links: JobLinks
    expires: float = math.inf
    failed_error: type[RayAgentError] = RayAgentJobFailedError
    # It has the secrets of the job, and Airflow's OpenLineage provider can send the repr of all that a task holds
    # (``TaskInfoComplete`` in ``airflow/providers/openlineage/utils/utils.py``).
    seen: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def create(
        cls,
        hook: RayAgentHook,
        job_id: str,
        log: Any,
        ti: Any,
        options: FollowOptions,
        *,
        links: JobLinks | None = None,
        result_is_expected: bool = True,
        position: LogPosition | None = None,
        failed_error: type[RayAgentError] = RayAgentJobFailedError,
        mode: Mode = "worker",
        execution_timeout: timedelta | None = None,
    ) -> TaskJob:
        """Create the job with its parts; parameters that are not listed above belong to these parts.

        :param links: the pages about the job; ``None``: there are none.
        :param execution_timeout: the task's, which counts from now.
        """
        expires = time.monotonic() + execution_timeout.total_seconds() if execution_timeout else math.inf
        stopper = JobStopper(hook, job_id, log, ti, owns=options.stop_job_on_kill, expires=expires)
        links = links or JobLinks(None, job_id)
        output = PrintedOutput(hook, job_id, log, options, result_is_expected=result_is_expected, expires=expires)
        xcoms = MessageXComs(ti, log, job_id, options.printed_links)
        observer = JobObserver(
            hook,
            job_id,
            log,
            options,
            metrics=JobMetrics(hook.rayagent_conn_id, mode, team=options.team_name),
            output=output,
            xcoms=xcoms,
            position=position,
            stopper=stopper,
            on_status=lambda job: push_links(ti, links.update(job)),
        )
        return cls(hook, job_id, log, ti, observer, stopper, output, xcoms, links, expires, failed_error)

    def details(self, seen: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the details of a job that has ended. If its status differs from ``seen``, keep ``seen``."""
        try:
            job = self.hook.get_job(self.job_id)
        except RayAgentError as error:
            # The trigger has seen the job's end, so a failed request must not change the outcome.
            self.log.warning(
                coded(Code.DETAILS_UNRELIABLE, "Failed to read the details of job %s: %s"), self.job_id, error.detail
            )
            return seen
        # The id may belong to another job by now: after a restart of its head, Ray accepts an earlier id again.
        if job.get("status") != seen.get("status"):
            self.log.warning(
                coded(Code.DETAILS_UNRELIABLE, "Job %s ended as %s, but its status is %s now; ignoring the change."),
                self.job_id,
                self._status(seen),
                self._status(job),
            )
            return seen
        return job

    def conclude(self, outcome: Outcome) -> JobSummary:
        """Return the XCom of a job that has succeeded.

        :raises RayAgentJobFailedError: or :class:`RayAgentJobStoppedError`, after pushing the XCom.
        :raises RayAgentJobMissingError: if the agent does not know the job.
        :raises RayAgentError: the last error of the status request.
        """
        self.seen = outcome.job
        self.observer.metrics.ended(outcome.end, outcome.job)
        if outcome.end is End.JOB_ENDED:
            return self._conclude_ended(outcome.job or {})
        if outcome.end is End.JOB_MISSING:
            missing = self.observer.settings.missing_timeout
            raise RayAgentJobMissingError(
                f"Job {self.job_id} "
                + ("no longer exists." if outcome.job else f"still does not exist after {missing:g} seconds.")
                + " Check the job id and the connection; a reinstalled agent or a restarted Ray head has no "
                "earlier jobs.",
                404,
            )
        if self.stopper.task_is_killed.is_set():
            raise RayAgentError(f"The task was killed while it followed job {self.job_id}.", code=Code.NOT_STOPPED)
        raise outcome.error or RayAgentError(f"Could not read the status of job {self.job_id}.")

    def time_out(
        self, name: str, seconds: float, job: Mapping[str, Any] | None, error: type[BaseException]
    ) -> NoReturn:
        """Stop the job if the task owns it, and raise ``error``: the task's timeout ``name`` has expired."""
        self.seen = job
        self.observer.metrics.ended(End.TIMED_OUT)
        self.stopper.stop(f"The task's {name} has expired")
        status = self._status(job) if job else "unknown"
        text = f"Job {self.job_id} did not end within the {name} of {seconds:g} seconds; its status is {status}."
        # A RayAgentError puts a code before its text itself.
        raise error(text if issubclass(error, RayAgentError) else coded(Code.JOB_TIMED_OUT, text))

    def _conclude_ended(self, job: Mapping[str, Any]) -> JobSummary:
        redact = self.hook.config.redact
        # A worker that resumes a deferred task has not followed the job, and does not know its secrets.
        redact.add(secrets_of(job))
        summary = jobs.summarize(job, self.job_id, redact)
        self.xcoms.push(self.output.messages)
        status = jobs.known_status(job)
        if status is JobStatus.SUCCEEDED:
            if self.output.has_result:
                summary["result"] = self.output.result_or_none()
            return summary
        # Airflow pushes only what execute() returns, and this raises an error.
        try_push_xcom(self.ti, "return_value", summary, self.log)
        reason = explain(
            job,
            self.job_id,
            log_is_shown=self.observer.options.forward_logs,
            link=self.links.known.get(JOB_PAGE, ""),
            redact=redact,
        )
        kind = RayAgentJobStoppedError if status is JobStatus.STOPPED else self.failed_error
        error = kind(reason, code=code_of_job(job))
        # RayAgentRetryPolicy sees the error, but not the job.
        error.failure_kind = kind_of_job(job)
        raise error

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)
