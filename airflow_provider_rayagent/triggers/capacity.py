"""Trigger that waits until a cluster has enough free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.capacity_wait import CapacityOutcome, CapacityWait, Requirement
from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook

__all__ = ["RayAgentCapacityTrigger"]


class RayAgentCapacityTrigger(WaitTrigger[CapacityOutcome]):
    """Wait until the cluster has enough free, and fire one event.

    All arguments are JSON primitives, and none is a secret.

    :param num_gpus: GPUs.
    :param num_cpus: CPUs.
    :param memory_bytes: bytes of memory.
    :param accelerator_type: type of the accelerator of the nodes that count; ``None``: all nodes.
    :param on_one_node: whether one node must have all of it.
    :param wait_for_scale_up: wait even for more than the nodes have in total.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param poll_interval: seconds between two requests.
    :param agent_unreachable_timeout: seconds for which the requests may fail.
    :param deadline: time (seconds since the epoch) at which to give up, after a last request.
    """

    outcome_type = CapacityOutcome
    arguments = (
        "num_gpus",
        "num_cpus",
        "memory_bytes",
        "accelerator_type",
        "on_one_node",
        "wait_for_scale_up",
        "rayagent_conn_id",
        "poll_interval",
        "agent_unreachable_timeout",
        "deadline",
    )

    def __init__(
        self,
        *,
        num_gpus: float = 0.0,
        num_cpus: float = 0.0,
        memory_bytes: int = 0,
        accelerator_type: str | None = None,
        on_one_node: bool = False,
        wait_for_scale_up: bool = False,
        rayagent_conn_id: str = "rayagent_default",
        poll_interval: float = 15.0,
        agent_unreachable_timeout: float = 300.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_gpus = num_gpus
        self.num_cpus = num_cpus
        self.memory_bytes = memory_bytes
        self.accelerator_type = accelerator_type
        self.on_one_node = on_one_node
        self.wait_for_scale_up = wait_for_scale_up
        self.rayagent_conn_id = rayagent_conn_id
        self.poll_interval = poll_interval
        self.agent_unreachable_timeout = agent_unreachable_timeout
        self.deadline = deadline

    def _make_wait(self, redact: Callable[[str], str]) -> CapacityWait:
        required = Requirement(self.num_gpus, self.num_cpus, self.memory_bytes, self.accelerator_type, self.on_one_node)
        return CapacityWait(required, self.wait_for_scale_up, self.agent_unreachable_timeout, redact)

    async def _read(self, hook: RayAgentAsyncHook) -> Any:
        agent = await hook.get_async_conn()
        return await agent.send(agent.config.service.get_capacity())

    def _log_status(self, status: str) -> None:
        self.log.info("%s", status)
