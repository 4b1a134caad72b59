"""Operators that submit a job, run a plugin's action, stop a Ray job and delete a Serve application."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentHTTPError
from airflow_provider_rayagent.exceptions import RayAgentJobMissingError, RayAgentNotFoundError
from airflow_provider_rayagent.links.rayagent import JobLinkButtons, links_of, push_links
from airflow_provider_rayagent.operators.run_plugin import RayAgentRunPluginOperator
from airflow_provider_rayagent.operators.submit_job import RayAgentSubmitJobOperator
from airflow_provider_rayagent.run.outcome import Outcome, lost_with_cluster
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.validation import (
    MIN_POLL_SECONDS,
    quote_application_name,
    validate_choice,
    validate_id,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tasks.deferring import TIMEOUT_MARGIN
from airflow_provider_rayagent.tasks.waiting_operator import RequestWaitingOperator
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.waits.application_wait import ApplicationOutcome, ApplicationWait, find_application
from airflow_provider_rayagent.waits.waiting import WaitResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_rayagent.connection.job_links import JobLinks
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.run.follow_options import FollowOptions

__all__ = [
    "RayAgentDeleteServeApplicationOperator",
    "RayAgentRunPluginOperator",
    "RayAgentStopJobOperator",
    "RayAgentSubmitJobOperator",
]

IfDone = Literal["succeed", "skip", "fail"]
"""What the task does if there is nothing to do."""

MISSING_SECONDS = 10.0
"""How long a job may be unknown to the agent after its stop was requested, before it counts as gone."""

_IF_DONE: tuple[IfDone, ...] = ("succeed", "skip", "fail")


class _IdempotentOperator(RequestWaitingOperator):
    """Let the DAG author choose what happens if there is nothing to do."""

    def _nothing_to_do(self, choice: IfDone, error: RayAgentError) -> None:
        """Succeed, skip or fail, depending on the operator's argument."""
        if choice == "fail":
            raise error
        if choice == "skip":
            raise AirflowSkipException(error.detail)
        self.log.info("%s Nothing to do.", sentence(error.detail))

    def _status(self, seen: Mapping[str, Any] | None) -> str | None:
        """Return the status of a job or application, sanitized for the task log and XCom; ``None`` if it has none."""
        if seen is None or seen.get("status") is None:
            return None
        return jobs.shown_status(seen, self.hook.config.redact)


class RayAgentStopJobOperator(_IdempotentOperator):
    """Stop a Ray job.

    By default the task is idempotent: it succeeds if the job has already ended. It fails if the agent does not know the
    job, since a mistyped id would otherwise leave the job running while the task is green.

    XCom (``return_value``): ``job_id``, ``status`` (the last known one), ``stop_requested``.

    .. code-block:: python

        from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator

        stop = RayAgentStopJobOperator(task_id="stop", job_id="train-20260131", if_missing="skip")

    :param job_id: id of the job (Ray's submission id). (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection. (templated)
    :param wait_for_termination: wait until the job has ended. The agent's response alone does not guarantee the stop: a
        job that waits for resources can stay PENDING for minutes.
    :param timeout: seconds to wait for the end of the job; default 300.
    :param poll_interval: seconds between two status checks; default 2.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
    :param if_missing: what to do if the agent does not know the job: ``fail``, ``skip`` or ``succeed``.
    :param if_finished: what to do if the job has already ended: ``succeed``, ``skip`` or ``fail``.

    The other arguments are those of Airflow's ``BaseOperator``.
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id", "cluster")
    operator_extra_links = JobLinkButtons()
    ui_color = "#f9e2d2"

    def __init__(
        self,
        *,
        job_id: str,
        wait_for_termination: bool = True,
        if_missing: IfDone = "fail",
        if_finished: IfDone = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.wait_for_termination = wait_for_termination
        self.if_missing = validate_choice(if_missing, "if_missing", _IF_DONE)
        self.if_finished = validate_choice(if_finished, "if_finished", _IF_DONE)
        self.job_links: JobLinks | None = None
        """The pages about the job, which the link classes show."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the job, and wait until it has ended."""
        validate_id(self.job_id, "job")
        self.job_links = links_of(self)
        push_links(context["ti"], self.job_links.known)
        with self.hook as hook:
            job = self._get_job(hook)
            push_links(context["ti"], self.job_links.update(job))
            if not jobs.has_ended(job):
                try:
                    is_requested = self._request_stop(hook, job)
                except RayAgentNotFoundError:
                    return self._job_missing()
                if is_requested:
                    return self._wait_for_termination(hook, job)
                job = self._get_job(hook)
                self.job_links.update(job)
            return self._already_finished(job)

    def _wait_for_termination(self, hook: RayAgentHook, job: dict[str, Any]) -> dict[str, Any]:
        self.log.info("Stop of job %s requested; its status was %s.", self.job_id, self._status(job) or "unknown")
        if not self.wait_for_termination:
            return self._result(job, stop_requested=True)
        if self.deferrable:
            # Raises TaskDeferred.
            self._defer_wait(self._trigger)
        return self._stopped_job(self._wait_for_end(hook))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Conclude from the trigger's event."""
        return self._stopped_job(Outcome.from_event(event))

    def _stopped_job(self, outcome: Outcome) -> dict[str, Any]:
        # After a deferral, this is another process than that of execute().
        self.job_links = self.job_links or links_of(self)
        self.job_links.update(outcome.job)
        job = dict(outcome.job or {"status": None})
        status = self._status(job)
        if outcome.end is End.TIMED_OUT:
            raise self._timed_out(f"Stop of job {self.job_id} was requested, but it is still {status}", outcome.error)
        if outcome.end is End.JOB_MISSING:
            self.log.warning(coded(Code.JOB_MISSING, "Job %s no longer exists."), self.job_id)
            job = {"status": None}
        elif outcome.end is End.CLUSTER_GONE:
            # What runs nowhere is stopped; a teardown may have deleted the cluster at the same time.
            self.log.warning(str(lost_with_cluster(self.job_id, self.cluster, outcome.error)))
            job = {"status": None}
        elif outcome.end is not End.JOB_ENDED:
            raise outcome.error or RayAgentError(f"Could not read the status of job {self.job_id}.")
        else:
            self.log.info("Job %s is %s.", self.job_id, status)
        return self._result(job, stop_requested=True)

    def _trigger(self, deadline: float | None) -> BaseTrigger:
        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

        options = replace(self._follow_options(), poll_interval=max(self.poll_interval, MIN_POLL_SECONDS))
        return RayAgentJobTrigger(job_id=self.job_id, deadline=deadline, **self._service_arguments, **options.to_json())

    def _follow_options(self) -> FollowOptions:
        from airflow_provider_rayagent.run.follow_options import FollowOptions

        return FollowOptions(
            forward_logs=False,
            poll_interval=self.poll_interval,
            job_missing_timeout=MISSING_SECONDS,
            # More than the wait, whose own timeout then comes first and says what was waited for.
            agent_unreachable_timeout=self.timeout + TIMEOUT_MARGIN,
        )

    def _get_job(self, hook: RayAgentHook) -> dict[str, Any]:
        """Return the job's details, without a status if the agent does not know it: it may be in the agent's queue."""
        try:
            return hook.get_job(self.job_id)
        except RayAgentNotFoundError:
            return {"status": None}

    def _request_stop(self, hook: RayAgentHook, job: dict[str, Any]) -> bool:
        """Request the stop; return ``False`` if the job has ended meanwhile.

        :raises RayAgentNotFoundError: if the agent does not know the job. For a job it knew, the request is retried
            for a while.
        """
        until = time.monotonic() + (0.0 if job["status"] is None else MISSING_SECONDS)
        while True:
            response = self._send_stop(hook)
            if isinstance(response, dict):
                # Ray says {"stopped": false} of a job that has ended; the form of an agent's response is not
                # documented.
                return response.get("stopped") is not False or not jobs.has_ended(self._get_job(hook))
            job = self._get_job(hook)
            if jobs.has_ended(job):
                return False
            if not isinstance(response, RayAgentNotFoundError):
                raise response
            if time.monotonic() >= until or self._killed.wait(min(self.poll_interval, 1.0)):
                if job["status"] is None:
                    raise response
                raise RayAgentError(
                    f"Failed to stop job {self.job_id}, which is {self._status(job)}: {response.detail}",
                    404,
                    code=Code.STOP_FAILED,
                )

    def _send_stop(self, hook: RayAgentHook) -> dict[str, Any] | RayAgentHTTPError:
        """Send the stop request; return the agent's response, or its error if there is nothing to stop."""
        try:
            return hook.stop_job(self.job_id)
        except RayAgentHTTPError as error:
            # An agent may send 400 for a job that has ended, and Ray does so for a job without a submission id.
            if error.status_code not in (400, 404):
                raise
            return error

    def _wait_for_end(self, hook: RayAgentHook) -> Outcome:
        """Wait until the job has ended."""
        settings = self._follow_options().tail_settings()
        follower = hook.follow_job(self.job_id, settings, deadline=self.timeout, stopped=self._killed)
        for _ in follower.blocking_items():
            pass
        outcome = Outcome.of(follower)
        # No end: the task is being killed.
        return replace(outcome, end=End.TIMED_OUT) if outcome.end is None else outcome

    def _already_finished(self, job: dict[str, Any]) -> dict[str, Any]:
        error = RayAgentError(
            f"Job {self.job_id} has already ended as {self._status(job)}.", 400, code=Code.NOTHING_TO_DO
        )
        self._nothing_to_do(self.if_finished, error)
        return self._result(job, stop_requested=False)

    def _job_missing(self) -> dict[str, Any]:
        error = RayAgentJobMissingError(f"Job {self.job_id} does not exist.", 404, code=Code.NOTHING_TO_DO)
        self._nothing_to_do(self.if_missing, error)
        return self._result({"status": None}, stop_requested=False)

    def _result(self, job: dict[str, Any], *, stop_requested: bool) -> dict[str, Any]:
        return storable({"job_id": self.job_id, "status": self._status(job), "stop_requested": stop_requested})


class RayAgentDeleteServeApplicationOperator(_IdempotentOperator):
    """Delete one Ray Serve application; others are not affected.

    By default the task is idempotent: it succeeds if the application does not exist.

    XCom (``return_value``): ``name``, ``status`` (before the deletion; ``None`` if it did not exist), ``deleted``.

    .. code-block:: python

        from airflow_provider_rayagent.operators.rayagent import RayAgentDeleteServeApplicationOperator

        delete = RayAgentDeleteServeApplicationOperator(task_id="delete", name="chat")

    :param name: name of the application. (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection. (templated)
    :param wait_for_deletion: wait until the application is gone.
    :param timeout: seconds to wait for the deletion; default 300.
    :param poll_interval: seconds between two status checks; default 2.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
    :param if_missing: what to do if the application does not exist: ``succeed``, ``skip`` or ``fail``.

    The other arguments are those of Airflow's ``BaseOperator``.
    """

    template_fields: Sequence[str] = ("name", "rayagent_conn_id", "cluster")
    ui_color = "#f9e2d2"

    def __init__(
        self,
        *,
        name: str,
        wait_for_deletion: bool = True,
        if_missing: IfDone = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.wait_for_deletion = wait_for_deletion
        self.if_missing = validate_choice(if_missing, "if_missing", _IF_DONE)

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Delete the application, and wait until it is gone."""
        quote_application_name(self.name)
        with self.hook as hook:
            # First, since Ray's ``serve.delete`` ignores a name that does not exist.
            application = self._find(hook)
            if application is None or not self._request_deletion(hook):
                error = RayAgentNotFoundError(
                    f"There is no Serve application {self.name!r}.", 404, code=Code.NOTHING_TO_DO
                )
                self._nothing_to_do(self.if_missing, error)
                return self._result(None, deleted=False)
            status = self._status(application)
            self.log.info("Deletion of the Serve application %r requested; its status was %s.", self.name, status)
            if self.wait_for_deletion and self.deferrable:
                # Raises TaskDeferred.
                self._defer_wait(self._trigger, status=storable(status))
            if self.wait_for_deletion:
                return self._conclude(self._wait(self._deletion(self.poll_interval), hook.get_conn()), status)
        return self._result(status, deleted=True)

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002
        event: dict[str, Any] | None = None,
        status: str | None = None,  # dag.test() drops the kwargs of a deferral
    ) -> dict[str, Any]:
        """Conclude from the trigger's event."""
        return self._conclude(ApplicationOutcome.from_event(event), status)

    def _conclude(self, outcome: ApplicationOutcome, status: str | None) -> dict[str, Any]:
        if outcome.result is WaitResult.TIMED_OUT:
            raise self._timed_out(f"The Serve application {self.name!r} still exists ({outcome.status})", outcome.error)
        if outcome.result is not WaitResult.REACHED:
            raise outcome.error or RayAgentError(f"Could not read the status of the Serve application {self.name!r}.")
        self.log.info("The Serve application %r is gone.", self.name)
        return self._result(status, deleted=True)

    def _deletion(self, poll_interval: float) -> ApplicationWait:
        return ApplicationWait(
            self.name,
            "gone",
            # The agent may be unreachable for longer than the wait, whose own timeout then comes first.
            agent_unreachable_timeout=self.timeout + TIMEOUT_MARGIN,
            poll_interval=poll_interval,
        )

    def _trigger(self, deadline: float | None) -> BaseTrigger:
        from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger

        wait = self._deletion(max(self.poll_interval, MIN_POLL_SECONDS))
        return RayAgentServeApplicationTrigger(deadline=deadline, **self._service_arguments, **wait.arguments())

    def _find(self, hook: RayAgentHook) -> dict[str, Any] | None:
        return finish(find_application(hook.get_conn(), self.name))

    def _request_deletion(self, hook: RayAgentHook) -> bool:
        """Request the deletion; return ``False`` if the application is gone meanwhile."""
        try:
            hook.delete_serve_application(self.name)
        except RayAgentNotFoundError:
            # If it is still listed, the 404 comes from a wrong path or a proxy.
            if self._find(hook) is None:
                return False
            raise
        return True

    def _result(self, status: str | None, *, deleted: bool) -> dict[str, Any]:
        return storable({"name": self.name, "status": status, "deleted": deleted})
