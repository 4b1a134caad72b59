"""Find the Ray job of a task again after a retry, a clear, or the death of its worker."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentNotFoundError
from airflow_provider_rayagent.run.job_identity import JobIdentity, Place
from airflow_provider_rayagent.run.job_ids import derived_id, numbered, validate_base_id
from airflow_provider_rayagent.run.resume_key import resume_env_vars, stored_successes
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.task_instance.task_state_store import TaskStateStore
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.run.client import JobClient
    from airflow_provider_rayagent.run.job_run import JobRun

IfSucceeded = Literal["reuse", "run_again"]

JOB_ID_KEY = "job_id"
BASE_ID_KEY = "rayagent_job_root"
"""Key in the task state store: the base id of the task's jobs, without numeric suffix."""
JOB_KEY = "rayagent_job"
"""Key in the task state store: the last job of the task, if its connection names several clusters."""
STOPPED_KEY = "rayagent_stopped_job"
"""Key in the task state store: the last job whose stop the task has requested."""
STOP_ELSEWHERE_SECONDS = 2.0
"""How long a task waits for the stop of its last job on another cluster, which may be gone."""
STOP_SECONDS = 6.0
"""How long a job can still be RUNNING after a stop request; Ray sends SIGKILL after 3 seconds."""
STATUS_CHECK_SECONDS = 0.5


class JobFinder:
    """Finds the job of a task, whichever of its tries has started it.

    The ids of its jobs end with a number: each time that a new job is started, it gets the next one.

    :param place: where the job is searched.
    :param log: the task's logger.
    :param config_of: returns the configuration for another cluster of the connection.
    :param check: gets the id and the details of an existing job; raises an error if it is not the task's.
    :param claim: makes the job with this id the task's, and pushes its id; ``exists``: whether it is on the service.
        Raises an error if the task was killed.
    """

    def __init__(
        self,
        client: JobClient,
        place: Place,
        log: Any,
        context: Context,
        *,
        if_succeeded: IfSucceeded,
        config_of: Callable[[str], ServiceConfig],
        check: Callable[[str, Mapping[str, Any]], object],
        claim: Callable[..., JobRun],
    ) -> None:
        self._client = client
        self._place = place
        self._log = log
        self._context = context
        self._stored = TaskStateStore(context)
        self._if_succeeded = if_succeeded
        self._config_of = config_of
        self._check = check
        self._claim = claim
        self.was_pending = False
        """Whether the job that was found is PENDING."""
        self._previous: str | None = None
        """The latest job that the task does not attach to, unless it has succeeded."""
        self._successes = 0
        """How many of the jobs that Ray knows have succeeded."""
        self._base_id = ""

    def find(self, base_id: str | None) -> tuple[JobRun, Mapping[str, Any] | None]:
        """Choose the task's job and claim it; return its run, and its details, ``None`` if it has to be started.

        :param base_id: its id without a number; ``None``: derive it.
        """
        self._leave_other_place()
        base_ids = [base_id] if base_id else self._derived_base_ids()
        # If no base id has a job, ``each`` and ``job_id`` remain those of the last one, which a new job gets.
        for each in map(validate_base_id, base_ids):
            job_id, job = self._find_latest(each)
            if job is not None:
                break
        self._base_id = each
        run = self._claim(job_id, exists=job is not None)
        if job is None:
            # What is stored is of an earlier job with this id, which Ray has forgotten.
            run.observer.position = None
            if self._has_stopped(job_id):
                self._stored.try_set(STOPPED_KEY, {})
        if not base_id:
            # Later tries find their job after the namespace has changed.
            self._stored.set(BASE_ID_KEY, each)
        return run, job

    def resume_env_vars(self) -> dict[str, str]:
        """Return what tells a new job of the earlier ones, whose work it can continue, as environment variables."""
        successes = self._successes
        if self._if_succeeded == "run_again":
            # A restarted head has forgotten the jobs that succeeded; a job must not continue what is complete.
            successes = max(successes, stored_successes(self._stored))
        return resume_env_vars(self._base_id, successes, self._previous)

    def _leave_other_place(self) -> None:
        """Stop the last job of the task if it is not at this place, so that no two of them run."""
        last = JobIdentity.from_json(self._stored.get(JOB_KEY)) if self._place.cluster is not None else None
        if last is None or last.place.has_ids_of(self._place):
            return
        cluster, status = last.place.cluster, last.status
        # Otherwise Ray has been started anew on this cluster, and the job has ended with its session.
        if status is None and cluster is not None and cluster != self._place.cluster:
            status = self._stop_elsewhere(last.job_id, cluster)
        if status == JobStatus.SUCCEEDED.value:
            self._successes += 1
        else:
            self._previous = last.job_id

    def _stop_elsewhere(self, job_id: str, cluster: str) -> str | None:
        """Stop a job on another cluster; return its status before, as far as it is known."""
        # DAG files import this module, and must not load a transport library.
        from airflow_provider_rayagent.task_instance.stopping import STOP_FAILED, stop_job
        from airflow_provider_rayagent.transport import daemon_threads

        found: list[Mapping[str, Any]] = []

        def check(job: Mapping[str, Any]) -> None:
            self._check(job_id, job)
            found.append(job)

        def stop() -> None:
            why = f"This attempt has the cluster {shown(self._place.cluster)} instead of {shown(cluster)}"
            stop_job(self._config_of(cluster), job_id, self._log, why, hurry=True, check=check)

        # In a thread: a resolver, or a file system with the token, blocks for as long as it wants.
        stopping = daemon_threads.start(stop)
        if not daemon_threads.is_done_within(STOP_ELSEWHERE_SECONDS, stopping):
            no_answer = f"cluster {shown(cluster)} has not answered within {STOP_ELSEWHERE_SECONDS:g} seconds."
            self._log.error(STOP_FAILED, job_id, f"{no_answer} The job may still run there.")
        elif isinstance(error := stopping.exception(), RayAgentError):
            self._log.error(STOP_FAILED, job_id, error.detail)
        elif error is not None:
            raise error
        return jobs.shown_status(found[0], self._client.config.redact) if found else None

    def _derived_base_ids(self) -> list[str]:
        """Return the base ids that this task's job may have; a new job gets the last one."""
        from airflow_provider_rayagent.task_instance.identity import deployment_namespace, job_key

        key, namespace = job_key(self._context), self._client.config.job_namespace or deployment_namespace()
        stored = self._stored.get(BASE_ID_KEY)
        if isinstance(stored, str):
            return [stored]
        # A version without namespaces may have started the job of an earlier try.
        without = [derived_id(key)] if namespace and self._context["ti"].try_number > 1 else []
        return [*without, derived_id(key, namespace)]

    def _find_latest(self, base_id: str) -> tuple[str, Mapping[str, Any] | None]:
        """Return id and details of the latest job under a base id; the details are ``None`` if it does not exist."""
        for number in count(1):
            job_id = numbered(base_id, number)
            job = self._settled_job(job_id)
            if job is None:
                break
            if not jobs.has_ended(job) and self._has_stopped(job_id):
                # Ray applies the stop of a PENDING job when the job starts.
                self._log.info(
                    coded(
                        Code.EXISTING_JOB,
                        "Job %s of this task is still %s, but an earlier attempt has stopped it; starting a new job.",
                    ),
                    job_id,
                    self._status(job),
                )
            elif self._is_reusable(job_id, job):
                break
            if jobs.known_status(job) is JobStatus.SUCCEEDED:
                self._successes, self._previous = self._successes + 1, None
            else:
                self._previous = job_id
        return job_id, job

    def _has_stopped(self, job_id: str) -> bool:
        """Whether the task has requested the stop of a job."""
        stopped = JobIdentity.from_json(self._stored.get(STOPPED_KEY))
        return stopped is not None and stopped.is_at(self._place, job_id)

    def _settled_job(self, job_id: str) -> Mapping[str, Any] | None:
        """Return a job's details, after waiting for the effect of a stop that an earlier try may have requested."""
        job = find_job(self._client, job_id)
        if job is not None:
            # Before it is claimed: a kill stops a claimed job, which must not be that of another task instance.
            self._check(job_id, job)
        if job is None or jobs.has_ended(job):
            return job
        self._log.info(
            coded(
                Code.EXISTING_JOB,
                "Job %s of this task is %s; waiting up to %g s in case an earlier attempt requested a stop.",
            ),
            job_id,
            self._status(job),
            STOP_SECONDS,
        )
        # Claim it now: if the task is killed meanwhile, this is the job to stop.
        run = self._claim(job_id, exists=True)
        until = time.monotonic() + STOP_SECONDS
        while job is not None and not jobs.has_ended(job) and time.monotonic() < until:
            # After a kill the claim in find() raises, so the status at this point does not matter.
            if run.stopper.task_is_killed.wait(STATUS_CHECK_SECONDS):
                break
            job = find_job(self._client, job_id)
        return job

    def _is_reusable(self, job_id: str, job: Mapping[str, Any]) -> bool:
        status = self._status(job)
        if not jobs.has_ended(job):
            self._log.info(
                coded(Code.EXISTING_JOB, "Job %s of this task already exists (%s); attaching."), job_id, status
            )
            # Ray may stop it when it starts: before Airflow 3.3, an earlier try cannot store that it requested that.
            self.was_pending = jobs.known_status(job) is JobStatus.PENDING
            return True
        if jobs.known_status(job) is JobStatus.SUCCEEDED and self._if_succeeded == "reuse":
            self._log.info(
                coded(Code.EXISTING_JOB, "Job %s of this task has already succeeded; reusing its result."), job_id
            )
            return True
        self._log.info(coded(Code.EXISTING_JOB, "Job %s of this task ended as %s; starting a new job."), job_id, status)
        return False

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self._client.config.redact)


def find_job(client: JobClient, job_id: str) -> Mapping[str, Any] | None:
    """Return a job's details, ``None`` if the agent does not know it."""
    try:
        return client.get_job(job_id)
    except RayAgentNotFoundError:
        return None


def store_job(context: Context, job: JobIdentity) -> None:
    """Store for later tries which job the task has, if its connection names several clusters."""
    if job.place.cluster is not None:
        TaskStateStore(context).try_set(JOB_KEY, job.to_json())


def store_end(context: Context, job_id: str, status: str) -> None:
    """Store for later tries that the task has seen the end of its job."""
    store_job(context, _stored_job(context, job_id)._replace(status=status))


def store_stop(context: Context, job_id: str, cluster: str | None) -> None:
    """Store for later tries that the task has requested the stop of a job."""
    # A killed task has few seconds: with one cluster only, there is no place to read.
    job = JobIdentity(job_id, Place()) if cluster is None else _stored_job(context, job_id)
    TaskStateStore(context).try_set(STOPPED_KEY, job.to_json())


def _stored_job(context: Context, job_id: str) -> JobIdentity:
    """Return a job of the task, with its place if the connection names several clusters."""
    last = JobIdentity.from_json(TaskStateStore(context).get(JOB_KEY))
    return last if last is not None and last.job_id == job_id else JobIdentity(job_id, Place())
