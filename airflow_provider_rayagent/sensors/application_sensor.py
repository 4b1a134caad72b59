"""The sensor for a Serve application; its public name is in ``sensors.rayagent``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentInputError
from airflow_provider_rayagent.exceptions import (
    RayAgentServeApplicationFailedError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.sensors.waiting_sensor import WaitingSensor
from airflow_provider_rayagent.services.validation import (
    quote_application_name,
    seconds_of_time,
    validate_choice,
    validate_duration,
)
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.waits.application_wait import TARGETS, ApplicationOutcome, ApplicationWait, Target
from airflow_provider_rayagent.waits.waiting import WaitResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger


class RayAgentServeApplicationSensor(WaitingSensor[ApplicationOutcome]):
    """Wait until a Serve application is RUNNING, or gone.

    The task fails without a retry if the application is DEPLOY_FAILED or UNHEALTHY for longer than ``grace_period``;
    the error contains Ray's message. If the application does not exist yet, the task waits until ``timeout``.

    XCom (``return_value``): ``name``, ``status``, ``message``, ``route_prefix``, ``docs_path``,
    ``last_deployed_time_s`` (seconds since the epoch), ``deployments`` (the status of each); ``None`` if it is gone.

    .. code-block:: python

        from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor

        wait = RayAgentServeApplicationSensor(task_id="wait", name="chat", timeout=1800)

    :param name: name of the application. (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection. (templated)
    :param target: ``running`` or ``gone``.
    :param grace_period: seconds for which it may be DEPLOY_FAILED (possibly the status of an earlier deployment) or
        UNHEALTHY (from which Ray tries to recover).
    :param deployed_after: a time of which an earlier deployment does not count: a ``datetime`` with a time zone, its
        text in ISO 8601, or seconds since the epoch. It is compared with the clock of Ray's head; ``None``: every
        deployment counts. (templated)
    :param poke_interval: seconds between two status checks; with ``mode="reschedule"`` at least 10.
    :param agent_unreachable_timeout: seconds for which its status may be unavailable.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
        ``mode`` then has no effect.

    ``timeout``, ``soft_fail``, ``mode`` and the other arguments are those of Airflow's ``BaseSensorOperator``.
    """

    template_fields: Sequence[str] = ("name", "rayagent_conn_id", "cluster", "deployed_after")
    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        name: str,
        target: Target = "running",
        grace_period: timedelta | float = 30.0,
        deployed_after: datetime | float | str | None = None,
        poke_interval: timedelta | float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.name = name
        self.target = validate_choice(target, "target", TARGETS)
        self.grace_period = validate_duration(grace_period, "grace_period", or_zero=True)
        self.deployed_after = deployed_after
        if deployed_after is not None and self.target == "gone":
            raise RayAgentInputError(
                "deployed_after needs target='running': an application that is gone has no deployment."
            )

    def execute(self, context: Context) -> Any:
        """Wait for the application, here or deferred."""
        # Raises if the name is invalid; in __init__ it may still be a template.
        quote_application_name(self.name)
        return super().execute(context)

    def _make_wait(self, poll_interval: float) -> ApplicationWait:
        # Not in __init__, where it may still be a template.
        after = None if self.deployed_after is None else seconds_of_time(self.deployed_after, "deployed_after")
        return ApplicationWait(
            self.name, self.target, self.grace_period, self.agent_unreachable_timeout, poll_interval, after
        )

    def _trigger_type(self) -> type[WaitTrigger]:
        from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger

        return RayAgentServeApplicationTrigger

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
            last = f" Last error: {outcome.error.detail}" if outcome.error else f" Its status is: {outcome.status}."
            raise RayAgentWaitTimeoutError(
                f"{what} did not {goal} within the timeout of {self._time_limit():g} seconds.{last}",
                code=Code.APPLICATION_TIMED_OUT,
            )
        raise outcome.error or RayAgentError(f"Could not read the status of the Serve application {self.name!r}.")
