"""The sensor for a Serve application; its public name is in ``sensors.rayagent``."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskDeferralTimeout

from airflow_provider_rayagent.client.applications import (
    FAST_POLL_SECONDS,
    TARGETS,
    ApplicationOutcome,
    ApplicationWait,
    Target,
    WaitResult,
)
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.validation import quote_application_name, validate_duration
from airflow_provider_rayagent.exceptions import (
    RayAgentInputError,
    RayAgentServeApplicationFailedError,
    RayAgentServeApplicationTimeoutError,
)
from airflow_provider_rayagent.tasks.applications import find_application
from airflow_provider_rayagent.tasks.hook import HookMixin
from airflow_provider_rayagent.tasks.skipping import SkippingMixin
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.triggers.outcome import deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


class RayAgentServeApplicationSensor(SkippingMixin, HookMixin, BaseSensorOperator):
    """Wait until a Serve application is RUNNING, or gone.

    The task fails without a retry if the application is DEPLOY_FAILED or UNHEALTHY for longer than ``grace_period``;
    the error contains Ray's message. If the application does not exist yet, the task waits until ``timeout``.

    XCom (``return_value``): ``name``, ``status``, ``message``, ``route_prefix``, ``docs_path``,
    ``last_deployed_time_s`` (seconds since the epoch), ``deployments`` (the status of each); ``None`` if it is gone.

    :param name: name of the application. (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param target: ``running`` or ``gone``.
    :param grace_period: seconds for which it may be DEPLOY_FAILED (possibly the status of an earlier deployment) or
        UNHEALTHY (from which Ray tries to recover).
    :param poke_interval: seconds between two status checks.
    :param agent_unreachable_timeout: seconds for which its status may be unavailable.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
        ``mode`` then has no effect.

    ``timeout``, ``soft_fail``, ``mode`` and the other arguments are those of every sensor.
    """

    template_fields: Sequence[str] = ("name", "rayagent_conn_id")
    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        name: str,
        rayagent_conn_id: str = "rayagent_default",
        target: Target = "running",
        grace_period: timedelta | float = 30.0,
        poke_interval: timedelta | float = 5.0,
        agent_unreachable_timeout: timedelta | float = 300.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.name = name
        self.rayagent_conn_id = rayagent_conn_id
        if target not in TARGETS:
            raise RayAgentInputError(f"target must be one of {', '.join(TARGETS)}, not {target!r}.")
        self.target: Target = target
        self.grace_period = validate_duration(grace_period, "grace_period", or_zero=True)
        self.agent_unreachable_timeout = validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.deferrable = deferrable
        self._logged_status: str | None = None
        self._deadline = float("inf")

    def execute(self, context: Context) -> Any:
        """Wait for the application, here or deferred."""
        quote_application_name(self.name)
        self._deadline = time.monotonic() + self.timeout
        with self._handle_errors():
            return self._execute_deferred() if self.deferrable else super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002
        """Check the application; while it is failing or unreachable, keep checking until its grace period decides."""
        with self.hook as hook:
            outcome = self._check_status(hook)
            while outcome.result is None and self._wait.needs_fast_poll and time.monotonic() < self._deadline:
                time.sleep(min(FAST_POLL_SECONDS, self.poke_interval))
                outcome = self._check_status(hook)
        return False if outcome.result is None else PokeReturnValue(True, self._conclude(outcome))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Conclude from the trigger's event."""
        return self._conclude(ApplicationOutcome.from_event(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; if no triggerer ended it in time, check the application a last time."""
        with self._handle_errors():
            try:
                return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
            except TaskDeferralTimeout:
                with self.hook as hook:
                    outcome = self._check_status(hook)
                return self._conclude(replace(outcome, result=outcome.result or WaitResult.TIMED_OUT))

    def _log_reason(self, error: BaseException | None) -> None:
        if error is not None:
            self.log.error("%s", error)

    @cached_property
    def _wait(self) -> ApplicationWait:
        return ApplicationWait(self.target, self.grace_period, self.agent_unreachable_timeout, self.hook.config.redact)

    def _check_status(self, hook: RayAgentHook) -> ApplicationOutcome:
        try:
            outcome = self._wait.seen(find_application(hook, self.name), time.monotonic())
        except RayAgentError as error:
            outcome = self._wait.failed(error, time.monotonic())
        if outcome.status != self._logged_status:
            self._logged_status = outcome.status
            self.log.info("The Serve application %r is %s.", self.name, outcome.status)
        return outcome

    def _execute_deferred(self) -> Any:
        from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger

        with self.hook as hook:
            outcome = self._check_status(hook)
        if outcome.result is not None:
            return self._conclude(outcome)
        self.log.info("Deferring: the triggerer waits for the Serve application %r from here on.", self.name)
        return self.defer(
            trigger=RayAgentServeApplicationTrigger(
                name=self.name,
                rayagent_conn_id=self.rayagent_conn_id,
                target=self.target,
                poll_interval=max(float(self.poke_interval), 0.5),
                grace_period=self.grace_period,
                agent_unreachable_timeout=self.agent_unreachable_timeout,
                deadline=time.time() + self.timeout,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(self.timeout),
        )

    def _conclude(self, outcome: ApplicationOutcome) -> dict[str, Any] | None:
        from airflow_provider_rayagent.text.sanitization import sanitize

        what = f"The Serve application {self.name!r}"
        if outcome.result is WaitResult.REACHED:
            return storable(outcome.application)
        if outcome.result is WaitResult.FAILED:
            message = str((outcome.application or {}).get("message") or "").strip()
            failing = [
                f"{sanitize(name)} {sanitize(str(status))}"
                for name, status in (outcome.application or {}).get("deployments", {}).items()
                if status not in ("HEALTHY", "RUNNING")
            ]
            raise RayAgentServeApplicationFailedError(
                "\n".join(
                    [
                        f"{what} has been {outcome.status} for {self.grace_period:g} seconds.",
                        *([f"Failing deployments: {', '.join(failing)}."] if failing else []),
                        *([f"Ray's message: {message}"] if message else []),
                        "Check the Serve page of the Ray dashboard, and the logs of the replicas.",
                    ]
                )
            )
        if outcome.result is WaitResult.TIMED_OUT:
            goal = "become RUNNING" if self.target == "running" else "disappear"
            last = f" Last error: {outcome.error}" if outcome.error else f" Its status is: {outcome.status}."
            raise RayAgentServeApplicationTimeoutError(
                f"{what} did not {goal} within the timeout of {self.timeout:g} seconds.{last}"
            )
        raise outcome.error or RayAgentError(f"Could not read the status of the Serve application {self.name!r}.")
