"""The operator that runs a plugin's action; ``operators.rayagent`` gives it its public name."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.client.jobs import JobStatus
from airflow_provider_rayagent.client.plugins import job_id_in
from airflow_provider_rayagent.client.transience import is_outcome_unknown
from airflow_provider_rayagent.client.validation import MAX_DURATION, validate_duration
from airflow_provider_rayagent.exceptions import (
    RayAgentGPUUnavailableError,
    RayAgentInputError,
    RayAgentJobMissingError,
    RayAgentJobNotStartedError,
    RayAgentRunFailedError,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.following import POLL_INTERVAL, RayAgentJobFollowingMixin
from airflow_provider_rayagent.tasks.job_ids import derived_id, numbered, validate_root
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.tasks.job import TaskJob
    from airflow_provider_rayagent.triggers.outcome import Outcome

IfSucceeded = Literal["reuse", "run_again"]

JOB_ID_KEY = "job_id"
ROOT_KEY = "rayagent_job_root"
"""In the task's state store: the id from which those of its jobs are made."""
STOP_SECONDS = 6.0
"""How long a job that is being stopped can still be seen RUNNING; Ray kills it after 3 seconds."""
LOOK_SECONDS = 0.5
TAKEN = 409
"""The status of an answer that a job of this id is there, or waits in the agent's queue."""


class RayAgentRunPluginOperator(RayAgentJobFollowingMixin):
    """Run an action of a plugin as a Ray job, and follow the job to its end.

    The job's id is the task's own: it follows from the DAG, the run, the task, the map index and the iteration of a
    loop. So a retry, a cleared task and a task whose worker died find their job again instead of starting a second one:

    - it runs, or waits in the agent's queue: it is followed;
    - it has succeeded: its result is taken (see ``if_succeeded``);
    - it failed or was stopped: a new one is started, whose id has a number at its end.

    A job that FAILED fails the task, which Airflow tries again where it has ``retries``; a job that was STOPPED from
    outside fails the task without a retry. The job's id is in the XCom ``job_id``, and the link to its page works,
    before the waiting begins. XCom (``return_value``): the job's final details as
    :class:`~airflow_provider_rayagent.sensors.rayagent.RayAgentJobSensor` gives them, and ``result``; with
    ``wait=False`` the job's id.

    :param lookup: which plugin release, as the agent looks it up. (templated)
    :param action: the plugin's action. (templated)
    :param action_params: its parameters: JSON. (``params`` are Airflow's own, those of the DAG.) (templated)
    :param requirements: further Python requirements of the job. (templated)
    :param language: the language of the plugin's messages. (templated)
    :param job_id: an id of your own in place of the derived one, of at most 90 characters; it has to differ from run
        to run, and from iteration to iteration of a loop. (templated)
    :param wait: whether the job is followed to its end.
    :param if_succeeded: what becomes of a job of this task that has succeeded before: ``reuse`` its result, or
        ``run_again``, which also runs again where a worker died after the job's success.
    :param start_timeout: seconds for which the job may wait for its start, in the agent's queue (unknown to the agent
        for a while) or PENDING on Ray; then the task fails, and stops the job if ``stop_job_on_kill``. ``None``: as
        long as it takes.
    :param poll_interval: seconds between two looks at the job's status.
    :param read_result: whether what the job prints between ``result_markers`` is its result; default on.
    :param stop_job_on_kill: stop the job when a user ends the task, or its ``execution_timeout`` does; default on.

    The arguments of :class:`~airflow_provider_rayagent.tasks.following.RayAgentJobFollowingMixin` say how the log is
    shown, and whether the job is followed in the triggerer (``deferrable``).
    """

    template_fields: Sequence[str] = (
        "lookup",
        "action",
        "action_params",
        "requirements",
        "language",
        "job_id",
        "rayagent_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"action_params": "json", "requirements": "json"}
    ui_color = "#e2f0d9"
    _failed_error = RayAgentRunFailedError

    def __init__(
        self,
        *,
        lookup: str,
        action: str,
        action_params: Mapping[str, Any] | None = None,
        requirements: Sequence[str] | None = None,
        language: str | None = None,
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
        self.lookup = lookup
        self.action = action
        self.action_params = action_params
        self.requirements = requirements
        self.language = language
        self.job_id = job_id  # type: ignore[assignment]
        self.wait = wait
        if if_succeeded not in ("reuse", "run_again"):
            raise RayAgentInputError(f"if_succeeded must be reuse or run_again, not {if_succeeded!r}.")
        self.if_succeeded = if_succeeded
        self.start_timeout = None if start_timeout is None else validate_duration(start_timeout, "start_timeout")
        self.poll_interval = validate_duration(poll_interval, "poll_interval")
        self._is_chosen = False

    def execute(self, context: Context) -> Any:
        """Start the job, or find it again, and follow it."""
        with self._ending():
            with self.hook:
                job = self._choose(context)
                task_job = self._begin(context)
                if job is None:
                    task_job = self._start(context, task_job)
            if not self.wait:
                return storable(self.job_id)
            if self.deferrable:
                return self._execute_deferred(context)
            with self.hook:
                return self._conclude(context, task_job, self._follow(context, task_job))

    def _begin(self, context: Context) -> TaskJob:
        if not self._is_chosen:
            from airflow_provider_rayagent.task_instance.identity import TaskIdentity

            ti = context["ti"]
            self.job_id = TaskIdentity.of(ti).pull(ti, JOB_ID_KEY)
            self._is_chosen = True
        return super()._begin(context)

    def _poll_seconds(self) -> float:
        return self.poll_interval

    def _choose(self, context: Context) -> Mapping[str, Any] | None:
        """Find the job of this task that counts, and push its id; ``None`` if it is to be started."""
        is_derived = not self.job_id
        roots = self._derived_roots(context) if is_derived else [self.job_id]
        self._start_by = time.time() + (MAX_DURATION if self.start_timeout is None else self.start_timeout)
        for root in map(validate_root, roots):
            job_id, job = self._last_of(context, root)
            if job is not None:
                break
        self._make_ours(context, job_id)
        if is_derived:
            self._remember_root(context, root)
        return job

    def _derived_roots(self, context: Context) -> list[str]:
        """Return the ids that this task's job may have, the one of a job that is to be started last."""
        from airflow_provider_rayagent.task_instance.identity import deployment_namespace, job_key

        key, namespace = job_key(context), self.hook.config.job_namespace or deployment_namespace()
        store = context.get("task_state_store")
        remembered = store.get(ROOT_KEY) if store is not None else None
        if isinstance(remembered, str):
            return [remembered]
        # Before there were namespaces, another try of this task may have started a job without one.
        without = [derived_id(key)] if namespace and context["ti"].try_number > 1 else []
        return [*without, derived_id(key, namespace)]

    def _remember_root(self, context: Context, root: str) -> None:
        """Let the tries to come find their job where the namespace changes meanwhile (Airflow 3.3 and newer)."""
        store = context.get("task_state_store")
        if store is not None:
            store.set(ROOT_KEY, storable(root))

    def _last_of(self, context: Context, root: str) -> tuple[str, Mapping[str, Any] | None]:
        """Return the last job of those that a task starts under an id; ``None`` as its details if it is not there."""
        for number in count(1):
            job_id = numbered(root, number)
            job = self._settled(context, job_id)
            if job is None or self._counts(job_id, job):
                break
        return job_id, job

    def _make_ours(self, context: Context, job_id: str) -> TaskJob:
        """Make a job this task's, unless it is; push its id.

        :raises RayAgentError: if the task was killed: no job may be started any more.
        """
        self._raise_if_killed(job_id)
        if self._task_job is None or self._task_job.job_id != job_id:
            self._call(context, job_id)
            self._task_job = None
        task_job = self._begin(context)
        self._raise_if_killed(job_id)
        return task_job

    def _raise_if_killed(self, job_id: str) -> None:
        if self._is_killed:
            if self._task_job is not None:
                self._task_job.stopper.wait()
            raise RayAgentError(f"The task was ended while it looked for its job {job_id}.")

    def _call(self, context: Context, job_id: str) -> None:
        self.job_id, self._is_chosen = job_id, True
        context["ti"].xcom_push(key=JOB_ID_KEY, value=storable(job_id))

    def _settled(self, context: Context, job_id: str) -> Mapping[str, Any] | None:
        """Return a job's details; one that an earlier try may just have asked to stop is looked at for a while."""
        job = self._found(job_id)
        if job is None or jobs.has_ended(job):
            return job
        self.log.info(
            "Job %s of this task is %s; it is looked at for %g seconds, as an earlier try may have asked to stop it.",
            job_id,
            self._status(job),
            STOP_SECONDS,
        )
        # Should the task be killed meanwhile, this is the job that is stopped.
        task_job = self._make_ours(context, job_id)
        until = time.monotonic() + STOP_SECONDS
        while job is not None and not jobs.has_ended(job) and time.monotonic() < until:
            if task_job.stopper.task_is_killed.wait(LOOK_SECONDS):
                break
            job = self._found(job_id)
        return job

    def _found(self, job_id: str) -> Mapping[str, Any] | None:
        try:
            return self.hook.get_job(job_id)
        except RayAgentNotFoundError:
            return None

    def _counts(self, job_id: str, job: Mapping[str, Any]) -> bool:
        status = self._status(job)
        if not jobs.has_ended(job):
            self.log.info("Job %s of this task is there already, and %s: it is followed.", job_id, status)
            return True
        if jobs.known_status(job) is JobStatus.SUCCEEDED and self.if_succeeded == "reuse":
            self.log.info("Job %s of this task has already succeeded: its result is taken, nothing is run.", job_id)
            return True
        self.log.info("Job %s of this task has ended as %s before: a new one is started.", job_id, status)
        return False

    def _start(self, context: Context, task_job: TaskJob) -> TaskJob:
        try:
            answer = self.hook.run_plugin_release(
                self.lookup,
                self.action,
                self.action_params,
                requirements=self.requirements,
                job_id=self.job_id,
                language=self.language,
            )
        except RayAgentGPUUnavailableError:
            raise
        except (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError) as error:
            if getattr(error, "status_code", None) == TAKEN:
                self.log.info("The agent has a job %s already, which an earlier try has started.", self.job_id)
            elif is_outcome_unknown(error) or self._is_known():
                self._await_known(task_job, error)
            else:
                raise
        else:
            named = job_id_in(answer, self.job_id)
            if named is not None and named != self.job_id:
                self.log.warning(
                    "The agent calls its job %s, not %s as it was asked to: another try cannot find it again.",
                    named,
                    self.job_id,
                )
                self._call(context, named)
                self._task_job = None
                task_job = self._begin(context)
            self.log.info("Started job %s: %s of %s.", self.job_id, self.action, self.lookup)
        finally:
            task_job.stopper.job_was_started()
        return task_job

    def _status(self, job: Mapping[str, Any]) -> str:
        return jobs.shown_status(job, self.hook.config.redact)

    def _is_known(self) -> bool:
        try:
            self.hook.get_job(self.job_id)
        except RayAgentError:
            return False
        return True

    def _await_known(self, task_job: TaskJob, lost: RayAgentError) -> None:
        """Wait for a job of which it is not known whether it was started."""
        self.log.warning("Whether job %s was started is not known yet: %s", self.job_id, lost)
        until = time.monotonic() + self.job_missing_timeout
        while not self._is_known():
            if time.monotonic() >= until:
                task_job.stopper.stop("The job did not appear")
                raise lost
            time.sleep(LOOK_SECONDS)
        self.log.info("Job %s was started.", self.job_id)

    def _conclude(self, context: Context, task_job: TaskJob, outcome: Outcome) -> dict[str, Any]:
        if outcome.end is End.NOT_STARTED:
            task_job.stopper.stop("The task's start_timeout is over")
            status = self._status(outcome.job) if outcome.job else "not known to the agent"
            raise RayAgentJobNotStartedError(
                f"Job {self.job_id} has not started within the start_timeout of {self.start_timeout:g} seconds; it is "
                f"{status}. Look at the agent's queue, and at what the cluster has free."
            )
        try:
            return super()._conclude(context, task_job, outcome)
        except RayAgentJobMissingError:
            task_job.stopper.stop("The agent does not know the job")
            raise
