"""Start the job of a task exactly once, or find the one that an earlier try has started."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentAbsentError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.errors.transience import is_outcome_unknown, is_transient, may_have_been_received
from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError, RayAgentResourcesError
from airflow_provider_rayagent.run.job_finder import (
    JOB_ID_KEY,
    STATUS_CHECK_SECONDS,
    IfSucceeded,
    JobFinder,
    find_job,
    store_job,
)
from airflow_provider_rayagent.run.job_identity import JobIdentity, Place
from airflow_provider_rayagent.run.patience import Patience
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.task_instance.xcoms import try_push_xcom
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.run.job_run import JobRun


ABSENT_SECONDS = 2.0
"""Seconds between two requests to a cluster that is not there yet."""


def _is_transient_but_not_absent(error: RayAgentError) -> bool:
    return is_transient(error) and not isinstance(error, RayAgentAbsentError)


def _accept(job_id: str, job: Mapping[str, Any]) -> None:
    """Accept any job."""


@dataclass(frozen=True)
class JobWork:
    """The work for which a task has one job.

    :param request: sends the request that starts the job; gets its id, and environment variables that tell it of
        earlier jobs. Returns the id that the service has assigned.
    :param describe: returns what the job runs, for the task log.
    :param check: gets the id and the details of an existing job; raises :class:`RayAgentInputError` if it is not the
        task's.
    :param required: what the command of the job requires, by the names of :class:`.Requirement`, as far as it is known.
    :param is_repeatable: whether the service starts one job only if it gets the request twice.
    """

    request: Callable[[str, Mapping[str, str]], str]
    describe: Callable[[], str]
    check: Callable[[str, Mapping[str, Any]], object] = _accept
    required: Mapping[str, float] = field(default_factory=dict)
    is_repeatable: bool = False


class JobStart:
    """Finds or starts the job of one task.

    :param log: the task's logger.
    :param unreachable_timeout: seconds for which the service may be unreachable.
    :param start_timeout: seconds for which a cluster that comes and goes may be absent.
    :param config_of: returns the configuration for another cluster of the connection.
    :param describe_free: returns what the job requires and what the cluster has free, for the end of a message.
    :param new_run: returns the run of a job, which is the task's from then on.
    :param raise_if_killed: raises :class:`RayAgentError` if the task was killed; gets the id of the job if it is known.
    """

    def __init__(
        self,
        client: JobClient,
        context: Context,
        log: Any,
        work: JobWork,
        *,
        if_succeeded: IfSucceeded,
        missing_timeout: float,
        unreachable_timeout: float,
        start_timeout: float,
        config_of: Callable[[str], ServiceConfig],
        describe_free: Callable[[], str],
        new_run: Callable[[str], JobRun],
        raise_if_killed: Callable[..., None],
    ) -> None:
        self._client = client
        self._context = context
        self._log = log
        self._work = work
        self._if_succeeded: IfSucceeded = if_succeeded
        self._missing_timeout = missing_timeout
        self._start_timeout = start_timeout
        self._config_of = config_of
        self._describe_free = describe_free
        self._new_run = new_run
        self._raise_if_killed = raise_if_killed
        self._patience = Patience(log, unreachable_timeout, raise_if_killed)
        self._run: JobRun | None = None
        self._place = Place()

    def run(self, base_id: str | None) -> JobRun:
        """Return the run of the job.

        :param base_id: its id without a number; ``None``: derive it.
        :raises RayAgentError: if the job cannot be started, or the task was killed.
        """
        self._place = self._find_place()
        finder, run, job = self._patience.call(lambda: self._find(base_id))
        if job is None:
            return self._start(run, finder.resume_env_vars())
        run.found_pending = finder.was_pending
        return run

    def _find(self, base_id: str | None) -> tuple[JobFinder, JobRun, Mapping[str, Any] | None]:
        # A new one each time: it counts the jobs that it has seen.
        finder = JobFinder(
            self._client,
            self._place,
            self._log,
            self._context,
            if_succeeded=self._if_succeeded,
            config_of=self._config_of,
            check=self._work.check,
            claim=self._claim,
        )
        return finder, *finder.find(base_id)

    def _find_place(self) -> Place:
        """Return where the job is to be found, after waiting for a cluster that is not there yet.

        :raises RayAgentJobNotStartedError: if it has not come in time.
        """
        until = time.monotonic() + self._start_timeout
        has_waited = False
        while True:
            try:
                return self._patience.call(lambda: Place.of(self._client), _is_transient_but_not_absent)
            except RayAgentAbsentError as error:
                cluster = shown(self._client.config.cluster)
                if time.monotonic() >= until:
                    text = f"Cluster {cluster} has not come within the start_timeout of {self._start_timeout:g} seconds"
                    raise RayAgentJobNotStartedError(f"{text}: {error.detail}") from None
                if not has_waited:
                    text = "Cluster %s is not there yet; waiting up to %g seconds for it: %s"
                    self._log.info(coded(Code.UNREACHABLE, text), cluster, self._start_timeout, error.detail)
            has_waited = True
            time.sleep(ABSENT_SECONDS)
            self._raise_if_killed()

    def _claim(self, job_id: str, *, exists: bool) -> JobRun:
        """Make a job the task's, and push its id.

        :param exists: whether an earlier try has started it.
        :raises RayAgentError: if the task was killed; then no job may be started, and an existing one is stopped.
        """
        if not exists:
            self._raise_if_killed(job_id)
        run = self._run
        if run is None or run.job_id != job_id:
            run = self._claim_new(job_id)
        # No job may be started after a kill.
        self._raise_if_killed(job_id)
        return run

    def _claim_new(self, job_id: str) -> JobRun:
        try_push_xcom(self._context["ti"], JOB_ID_KEY, job_id, self._log)
        store_job(self._context, JobIdentity(job_id, self._place))
        run = self._run = self._new_run(job_id)
        return run

    def _start(self, run: JobRun, resume_env_vars: Mapping[str, str]) -> JobRun:
        job_id = run.job_id
        # Another task instance with the same job_id may start its job first.
        run.stopper.check = partial(self._work.check, job_id)
        try:
            assigned = self._patience.call(lambda: self._work.request(job_id, resume_env_vars), self._may_request_again)
        except RayAgentResourcesError as error:
            if error.is_of_preparation:
                raise
            free = self._describe_free()
            detail = f"{error.detail.rstrip('.')}.{free}" if free else error.detail
            raise RayAgentResourcesError(detail, error.status_code) from None
        except (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError) as error:
            # The job's own request was not sent, so there is no job to look for.
            if error.is_of_preparation:
                raise
            if error.status_code == CONFLICT:
                self._check_existing(job_id)
                text = "Job %s already exists, started by an earlier request; attaching."
                self._log.info(coded(Code.EXISTING_JOB, text), job_id)
            # An error status such as 500 does not prove that no job was started.
            elif is_outcome_unknown(error) or self._job_exists(job_id):
                self._wait_until_known(run, error)
                self._check_existing(job_id)
            else:
                raise
        else:
            if assigned != job_id:
                text = "The agent assigned the job id %s instead of %s; another try will not find this job."
                self._log.warning(coded(Code.OTHER_JOB_ID, text), assigned, job_id)
                # Its stopper and its observer have the other id.
                run = self._claim_new(assigned)
            self._log.info("Started job %s: %s.", assigned, self._work.describe())
            run.entrypoint_is_logged()
        finally:
            run.stopper.on_job_started()
        # The job is known to be this task's, and a kill leaves no time for a needless request.
        run.stopper.check = None
        return run

    def _may_request_again(self, error: RayAgentError) -> bool:
        cannot_be_started = error.is_of_preparation or not may_have_been_received(error)
        return is_transient(error) and (cannot_be_started or self._work.is_repeatable)

    def _check_existing(self, job_id: str) -> None:
        """Check that the job that exists after the start request is this task's; if not, take back its id."""
        job = find_job(self._client, job_id)
        if job is None:
            return  # A plugin's job in the agent's queue may be unknown to it.
        try:
            self._work.check(job_id, job)
        except RayAgentInputError:
            # A task downstream must not take, or stop, the job of another task instance.
            try_push_xcom(self._context["ti"], JOB_ID_KEY, None, self._log)
            raise

    def _job_exists(self, job_id: str) -> bool:
        try:
            self._client.get_job(job_id)
        except RayAgentError:
            return False
        return True

    def _wait_until_known(self, run: JobRun, start_error: RayAgentError) -> None:
        """Wait for a job after a start request with an unknown outcome."""
        text = "Not known yet whether job %s was started: %s"
        self._log.warning(coded(Code.START_UNKNOWN, text), run.job_id, start_error.detail)
        until = time.monotonic() + self._missing_timeout
        while not self._job_exists(run.job_id):
            if time.monotonic() >= until:
                # It may wait in the agent's queue, and must not start when no task follows it.
                run.stopper.stop("The job did not appear")
                raise start_error
            time.sleep(STATUS_CHECK_SECONDS)
        self._log.info("Job %s was started.", run.job_id)
