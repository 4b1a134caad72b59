"""Trigger that waits for a Serve application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.services.application_wait import (
    ApplicationOutcome,
    ApplicationWait,
    Target,
    find_by_name,
)
from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook

__all__ = ["RayAgentServeApplicationTrigger"]


class RayAgentServeApplicationTrigger(WaitTrigger[ApplicationOutcome]):
    """Wait until a Serve application is RUNNING or gone, and fire one event.

    All arguments are JSON primitives, and none is a secret.

    :param name: name of the application.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param target: ``running`` or ``gone``.
    :param poll_interval: seconds between two status checks.
    :param grace_period: seconds for which the application may be DEPLOY_FAILED or UNHEALTHY.
    :param agent_unreachable_timeout: seconds for which its status may be unavailable.
    :param deadline: time (seconds since the epoch) at which to give up, after a last status check.
    """

    outcome_type = ApplicationOutcome
    arguments = (
        "name",
        "rayagent_conn_id",
        "target",
        "poll_interval",
        "grace_period",
        "agent_unreachable_timeout",
        "deadline",
    )

    def __init__(
        self,
        *,
        name: str,
        rayagent_conn_id: str = "rayagent_default",
        target: Target = "running",
        poll_interval: float = 5.0,
        grace_period: float = 30.0,
        agent_unreachable_timeout: float = 300.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.rayagent_conn_id = rayagent_conn_id
        self.target = target
        self.poll_interval = poll_interval
        self.grace_period = grace_period
        self.agent_unreachable_timeout = agent_unreachable_timeout
        self.deadline = deadline

    def _make_wait(self, redact: Callable[[str], str]) -> ApplicationWait:
        return ApplicationWait(self.target, self.grace_period, self.agent_unreachable_timeout, redact)

    async def _read(self, hook: RayAgentAsyncHook) -> dict[str, Any] | None:
        try:
            return await hook.get_serve_application(self.name)
        except RayAgentNotFoundError:
            # A 404 may also come from a wrong path or a proxy; only the list shows that the application does not exist.
            return find_by_name(await hook.list_serve_applications(), self.name)

    def _log_status(self, status: str) -> None:
        self.log.info("The Serve application %r is %s.", self.name, status)
