"""The job of a task in a worker: what observes it and stops it, and how its end becomes the task's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.jobs import JobStatus
from airflow_provider_rayagent.exceptions import (
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
)
from airflow_provider_rayagent.render.reasons import explain
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.observer import JobObserver
from airflow_provider_rayagent.tasks.result import PrintedResult
from airflow_provider_rayagent.tasks.stopper import JobStopper
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.render.record_builder import PresentSettings
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.triggers.outcome import Outcome


@dataclass
class TaskJob:
    """One job and the task that follows it.

    :param log: the task's logger.
    :param ti: the task instance.
    :param result: the result that it prints; ``None``: it has none.
    :param log_is_shown: whether the job's log is in the task log.
    :param link: the address of the job's page, if there is one.
    :param failed_error: what is raised for a job that FAILED.
    """

    hook: RayAgentHook
    job_id: str
    log: Any
    ti: Any
    observer: JobObserver
    stopper: JobStopper
    result: PrintedResult | None = None
    log_is_shown: bool = True
    link: str = ""
    failed_error: type[RayAgentError] = RayAgentJobFailedError

    @classmethod
    def create(
        cls,
        hook: RayAgentHook,
        job_id: str,
        log: Any,
        ti: Any,
        settings: TailSettings,
        *,
        present: PresentSettings | None = None,
        markers: tuple[str, str] | None = None,
        position: Mapping[str, Any] | None = None,
        owns: bool = False,
        log_is_shown: bool = True,
        link: str = "",
        failed_error: type[RayAgentError] = RayAgentJobFailedError,
    ) -> TaskJob:
        """Return the job of a task with its parts; see those for the parameters that are not named above."""
        stopper = JobStopper(hook, job_id, log, ti, owns=owns)
        result = None if markers is None else PrintedResult(hook, job_id, log, markers)
        observer = JobObserver(
            hook,
            job_id,
            log,
            settings,
            present=present,
            shown=log_is_shown,
            result=result,
            position=position,
            stopper=stopper,
        )
        return cls(hook, job_id, log, ti, observer, stopper, result, log_is_shown, link, failed_error)

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

    def conclude(self, outcome: Outcome) -> dict[str, Any]:
        """Return what goes to XCom of a job that succeeded.

        :raises RayAgentJobFailedError: or :class:`RayAgentJobStoppedError`, after the XCom was pushed.
        :raises RayAgentJobMissingError: if the agent does not know the job.
        :raises RayAgentError: the last failure to ask for the status.
        """
        if outcome.end is End.JOB_ENDED:
            return self._summary_of_ended(outcome.job or {})
        if outcome.end is End.JOB_MISSING:
            missing = self.observer.settings.missing_timeout
            raise RayAgentJobMissingError(
                f"The agent does not know the job {self.job_id}"
                + (", though it did before." if outcome.job else f" after {missing:g} seconds.")
                + " Check the id and the agent's connection; an agent that was set up anew forgets its jobs.",
                404,
            )
        raise outcome.error or RayAgentError(f"The status of job {self.job_id} could not be read.")

    def time_out(
        self, name: str, seconds: float, job: Mapping[str, Any] | None, error: type[BaseException]
    ) -> NoReturn:
        """Stop a job that is owned, and raise ``error``: the job has not ended within the task's timeout ``name``."""
        self.stopper.stop(f"The task's {name} is over")
        status = self._status(job) if job else "not known"
        raise error(f"Job {self.job_id} has not ended within the {name} of {seconds:g} seconds; it is {status}.")

    def _summary_of_ended(self, job: Mapping[str, Any]) -> dict[str, Any]:
        redact = self.hook.config.redact
        summary = jobs.summarize(job, self.job_id, redact)
        status = jobs.known_status(job)
        if status is JobStatus.SUCCEEDED:
            if self.result is not None:
                summary["result"] = self.result.value()
            return summary
        self.ti.xcom_push(key="return_value", value=storable(summary))
        reason = explain(job, self.job_id, log_is_shown=self.log_is_shown, link=self.link, redact=redact)
        kind = RayAgentJobStoppedError if status is JobStatus.STOPPED else self.failed_error
        raise kind(reason)

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)
