"""Base of triggers that wait for a state of the cluster."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.run.follow_options import known_arguments
from airflow_provider_rayagent.task_instance.resume_delay import pause_until_resumable
from airflow_provider_rayagent.waits.waiting import WaitResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow_provider_rayagent.waits.waiting import Wait


class WaitTrigger(BaseTrigger):
    """Wait until there is an outcome, and fire one event: :meth:`.WaitOutcome.to_event`.

    The other arguments are those of the wait; Airflow makes a failed trigger of a missing one (``TypeError``). All are
    JSON primitives, and none is a secret.

    :param rayagent_conn_id: the Airflow connection of the agent.
    :param cluster: the cluster in the URL of the connection; ``None``: it has none.
    :param deadline: time (seconds since the epoch) at which to give up, after a last request; ``None``: never.
    """

    wait_type: ClassVar[type[Wait[Any]]]

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        cluster: str | None = None,
        deadline: float | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self.deadline = deadline
        self.wait = self.wait_type(**known_arguments(self.wait_type, arguments, self.log))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        path = f"{type(self).__module__}.{type(self).__name__}"
        own = {"rayagent_conn_id": self.rayagent_conn_id, "cluster": self.cluster, "deadline": self.deadline}
        return path, {**own, **self.wait.arguments()}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Wait, then fire the event."""
        began = time.monotonic()
        try:
            async with RayAgentAsyncHook(self.rayagent_conn_id, cluster=self.cluster) as hook:
                outcome = await self.wait.until_decided(
                    await hook.get_async_conn(),
                    seconds_left=self._seconds_left,
                    pause=asyncio.sleep,
                    on_status=lambda status: self.log.info("%s", self.wait.describe(status)),
                )
        except RayAgentError as error:
            # From before the first request, such as for an invalid connection; the wait handles later ones.
            outcome = self.wait.outcome_type(WaitResult.AGENT_UNREACHABLE, None, error)
        # Before the event, since the task resumes as soon as Airflow has it (see task_instance/resume_delay.py).
        await pause_until_resumable(began, self.task_instance)
        yield TriggerEvent(outcome.to_event())  # type: ignore[no-untyped-call]

    def _seconds_left(self) -> float:
        return float("inf") if self.deadline is None else self.deadline - time.time()
