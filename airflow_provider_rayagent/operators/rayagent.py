"""Operators that stop a Ray job and delete a Serve application."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.agent import jobs, wire
from airflow_provider_rayagent.agent.errors import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.exceptions import (
    RayAgentInputError,
    RayAgentJobMissingError,
    RayAgentNotFoundError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, push_job_link

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

IfDone = Literal["succeed", "skip", "fail"]
"""What becomes of the task if there is nothing left to do."""

_IF_DONE = ("succeed", "skip", "fail")


class _RayAgentWaitingOperator(BaseOperator):
    """What both operators share: the connection, and waiting for what was asked for."""

    def __init__(self, *, rayagent_conn_id: str, timeout: float, poll_interval: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.timeout = wire.validate_duration(timeout, "timeout")
        self.poll_interval = wire.validate_duration(poll_interval, "poll_interval")

    @cached_property
    def hook(self) -> RayAgentHook:
        """The hook for the agent."""
        return RayAgentHook(rayagent_conn_id=self.rayagent_conn_id)

    @cached_property
    def _stopped(self) -> threading.Event:
        return threading.Event()

    def on_kill(self) -> None:
        """End the waiting; what was asked for is not taken back."""
        self._stopped.set()

    def _wait(self, is_done: Callable[[], bool], describe: Callable[[], str]) -> None:
        """Wait until ``is_done``; an agent that can't be reached meanwhile is asked again.

        :raises RayAgentWaitTimeoutError: with what ``describe`` says, after ``timeout`` seconds.
        """
        deadline = time.monotonic() + self.timeout
        trouble = ""
        while True:
            try:
                if is_done():
                    return
                trouble = ""
            except (RayAgentConnectionError, RayAgentHTTPError, RayAgentResponseError) as error:
                if not _may_pass(error):
                    raise
                trouble = f" The last look failed: {error}"
            left = deadline - time.monotonic()
            if left <= 0 or self._stopped.wait(min(self.poll_interval, left)):
                raise RayAgentWaitTimeoutError(f"{describe()} after {self.timeout:g} seconds.{trouble}", 408)

    def _nothing_to_do(self, choice: IfDone, error: RayAgentError) -> None:
        """Succeed, skip or fail, as the operator's argument says."""
        if choice == "fail":
            raise error
        if choice == "skip":
            raise AirflowSkipException(error.detail)
        self.log.info("%s Nothing to do.", error.detail)


class RayAgentStopJobOperator(_RayAgentWaitingOperator):
    """Stop a Ray job.

    The defaults make a re-run harmless: a job that has ended already is a success. A job that the agent does not
    know is a failure, since a mistyped id would otherwise leave the job running under a green task.

    XCom (``return_value``): ``job_id``, ``status`` (the last one seen), ``stop_requested``.

    :param job_id: the job's id (Ray's submission id). (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param wait_for_termination: whether to wait until the job has ended. The agent's answer to a stop is no promise:
        a job that waits for resources can stay PENDING for minutes.
    :param timeout: seconds to wait for that.
    :param poll_interval: seconds between two looks at the job's status.
    :param if_missing: if the agent does not know the job: ``fail``, ``skip`` or ``succeed``.
    :param if_finished: if the job has ended already: ``succeed``, ``skip`` or ``fail``.
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id")
    operator_extra_links = (RayAgentJobLink(),)
    ui_color = "#f9e2d2"

    def __init__(
        self,
        *,
        job_id: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        wait_for_termination: bool = True,
        timeout: float = 300.0,
        poll_interval: float = 2.0,
        if_missing: IfDone = "fail",
        if_finished: IfDone = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(rayagent_conn_id=rayagent_conn_id, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.job_id = job_id
        self.wait_for_termination = wait_for_termination
        self.if_missing = _choice(if_missing, "if_missing")
        self.if_finished = _choice(if_finished, "if_finished")

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the job, and wait until it has ended."""
        wire.validate_id(self.job_id, "job")
        push_job_link(self, context)
        with self.hook as hook:
            try:
                job = hook.get_job(self.job_id)
                if jobs.has_ended(job):
                    return self._finished(job)
                answer = self._request_stop(hook)
            except RayAgentNotFoundError:
                return self._missing()
            if answer is None:
                return self._finished(hook.get_job(self.job_id))
            self.log.info("Asked the agent to stop job %s, which was %s.", self.job_id, job.get("status"))
            if self.wait_for_termination:
                job = self._wait_for_end(hook, job)
        return self._result(job, stop_requested=True)

    def _request_stop(self, hook: RayAgentHook) -> dict[str, Any] | None:
        """Return the agent's answer, ``None`` if the job turns out to have ended meanwhile."""
        try:
            answer = hook.stop_job(self.job_id)
        except RayAgentNotFoundError:
            raise
        except RayAgentHTTPError as error:
            if error.status_code == 400 and jobs.has_ended(hook.get_job(self.job_id)):
                return None
            raise
        nothing_stopped = answer.get("stopped") is False and jobs.has_ended(hook.get_job(self.job_id))
        return None if nothing_stopped else answer

    def _wait_for_end(self, hook: RayAgentHook, job: dict[str, Any]) -> dict[str, Any]:
        seen = job

        def is_done() -> bool:
            nonlocal seen
            seen = hook.get_job(self.job_id)
            return jobs.has_ended(seen)

        try:
            self._wait(is_done, lambda: f"Job {self.job_id} was asked to stop and is still {seen.get('status')}")
        except RayAgentNotFoundError:
            self.log.warning("The agent no longer knows job %s.", self.job_id)
            return {"status": None}
        self.log.info("%s", jobs.describe(seen, self.job_id))
        return seen

    def _finished(self, job: dict[str, Any]) -> dict[str, Any]:
        error = RayAgentError(f"Job {self.job_id} has already ended as {job.get('status')}.", 400)
        self._nothing_to_do(self.if_finished, error)
        return self._result(job, stop_requested=False)

    def _missing(self) -> dict[str, Any]:
        error = RayAgentJobMissingError(f"The agent does not know the job {self.job_id}.", 404)
        self._nothing_to_do(self.if_missing, error)
        return self._result({"status": None}, stop_requested=False)

    def _result(self, job: dict[str, Any], *, stop_requested: bool) -> dict[str, Any]:
        return {"job_id": self.job_id, "status": job.get("status"), "stop_requested": stop_requested}


class RayAgentDeleteServeApplicationOperator(_RayAgentWaitingOperator):
    """Delete one Ray Serve application; the others stay as they are.

    The defaults make a re-run harmless: an application that is not there is a success.

    XCom (``return_value``): ``name``, ``status`` (before the deletion, ``None`` if it was not there), ``deleted``.

    :param name: the application's name. (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param wait_for_deletion: whether to wait until the application is gone.
    :param timeout: seconds to wait for that.
    :param poll_interval: seconds between two looks.
    :param if_missing: if there is no such application: ``succeed``, ``skip`` or ``fail``.
    """

    template_fields: Sequence[str] = ("name", "rayagent_conn_id")
    ui_color = "#f9e2d2"

    def __init__(
        self,
        *,
        name: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        wait_for_deletion: bool = True,
        timeout: float = 300.0,
        poll_interval: float = 2.0,
        if_missing: IfDone = "succeed",
        **kwargs: Any,
    ) -> None:
        super().__init__(rayagent_conn_id=rayagent_conn_id, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.name = name
        self.wait_for_deletion = wait_for_deletion
        self.if_missing = _choice(if_missing, "if_missing")

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Delete the application, and wait until it is gone."""
        wire.quote_application_name(self.name)
        with self.hook as hook:
            try:
                status = hook.get_serve_application(self.name).get("status")
                hook.delete_serve_application(self.name)
            except RayAgentNotFoundError:
                error = RayAgentNotFoundError(f"There is no Serve application {self.name!r}.", 404)
                self._nothing_to_do(self.if_missing, error)
                return {"name": self.name, "status": None, "deleted": False}
            self.log.info("Asked the agent to delete the Serve application %r, which was %s.", self.name, status)
            if self.wait_for_deletion:
                self._wait_until_gone(hook)
        return {"name": self.name, "status": status, "deleted": True}

    def _wait_until_gone(self, hook: RayAgentHook) -> None:
        status: object = None

        def is_done() -> bool:
            nonlocal status
            try:
                status = hook.get_serve_application(self.name).get("status")
            except RayAgentNotFoundError:
                return True
            return False

        self._wait(is_done, lambda: f"The Serve application {self.name!r} is still there ({status})")
        self.log.info("The Serve application %r is gone.", self.name)


def _choice(value: str, name: str) -> IfDone:
    for choice in _IF_DONE:
        if value == choice:
            return choice  # type: ignore[return-value]
    raise RayAgentInputError(f"{name} must be one of {', '.join(_IF_DONE)}, not {value!r}.")


def _may_pass(error: RayAgentError) -> bool:
    return not isinstance(error, RayAgentHTTPError) or error.status_code in (429, 500, 502, 503, 504)
