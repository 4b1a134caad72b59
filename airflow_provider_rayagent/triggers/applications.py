"""Trigger that waits for a Serve application."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_rayagent.client.applications import (
    FAST_POLL_SECONDS,
    ApplicationOutcome,
    ApplicationWait,
    Target,
    WaitResult,
    find_by_name,
)
from airflow_provider_rayagent.client.errors import RayAgentError, RayAgentNotFoundError
from airflow_provider_rayagent.hooks.aio import RayAgentAsyncHook

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["RayAgentServeApplicationTrigger"]


class RayAgentServeApplicationTrigger(BaseTrigger):
    """Wait until a Serve application is RUNNING or gone, and fire one event: :meth:`ApplicationOutcome.to_event`.

    All arguments are JSON primitives, and none is a secret.

    :param name: name of the application.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param target: ``running`` or ``gone``.
    :param poll_interval: seconds between two status checks.
    :param grace_period: seconds for which the application may be DEPLOY_FAILED or UNHEALTHY.
    :param agent_unreachable_timeout: seconds for which its status may be unavailable.
    :param deadline: time (seconds since the epoch) at which to give up, after a last status check.
    """

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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        names = (
            "name",
            "rayagent_conn_id",
            "target",
            "poll_interval",
            "grace_period",
            "agent_unreachable_timeout",
            "deadline",
        )
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Wait, then fire the event."""
        try:
            outcome = await self._wait()
        except RayAgentError as error:
            outcome = ApplicationOutcome(WaitResult.AGENT_UNREACHABLE, None, error)
        yield TriggerEvent(outcome.to_event())  # type: ignore[no-untyped-call]

    async def _wait(self) -> ApplicationOutcome:
        async with RayAgentAsyncHook(self.rayagent_conn_id) as hook:
            redact = (await hook.get_async_conn()).config.redact
            wait = ApplicationWait(self.target, self.grace_period, self.agent_unreachable_timeout, redact)
            logged_status: str | None = None
            while True:
                left = None if self.deadline is None else self.deadline - time.time()
                try:
                    outcome = wait.seen(await self._get_application(hook), time.monotonic())
                except RayAgentError as error:
                    outcome = wait.failed(error, time.monotonic())
                if outcome.status != logged_status:
                    logged_status = outcome.status
                    self.log.info("The Serve application %r is %s.", self.name, logged_status)
                if outcome.result is not None:
                    return outcome
                if left is not None and left <= 0:
                    return ApplicationOutcome(WaitResult.TIMED_OUT, outcome.application, outcome.error)
                pause = min(self.poll_interval, FAST_POLL_SECONDS) if wait.needs_fast_poll else self.poll_interval
                await asyncio.sleep(pause if left is None else min(pause, left))

    async def _get_application(self, hook: RayAgentAsyncHook) -> dict[str, Any] | None:
        try:
            return await hook.get_serve_application(self.name)
        except RayAgentNotFoundError:
            return find_by_name(await hook.list_serve_applications(), self.name)
