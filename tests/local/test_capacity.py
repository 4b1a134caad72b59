"""What the cluster has free, while a job of a real Ray holds some of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentResourcesError
from airflow_provider_rayagent.waits.capacity_wait import CapacityOutcome, CapacityWait
from airflow_provider_rayagent.waits.waiting import WaitResult
from tests.local.test_following import config_of_agent, config_of_ray
from tests.local.test_plain_ray import send
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("config_of", [config_of_agent, config_of_ray])
def test_resources_that_a_job_holds_are_waited_for(
    agent: LocalAgent, config_of: Callable[[LocalAgent], ServiceConfig]
) -> None:
    def capacity() -> Any:
        return send(config_of(agent), lambda service: service.get_capacity())

    def look(**required: Any) -> CapacityOutcome:
        return CapacityWait(**required).received(capacity(), 0.0)

    wait_until(lambda: capacity()["cpu"].get("available") == 4 or None, "jobs of other tests still hold CPUs")
    job_id = agent.submit("sleep 3600", entrypoint_num_cpus=3)
    wait_until(lambda: capacity()["cpu"]["available"] == 1 or None, "the job holds no CPUs")

    for on_one_node in (False, True):
        waiting = look(num_cpus=4, on_one_node=on_one_node)
        assert waiting.result is None
        assert "1 CPU. Required: 4 CPUs" in waiting.status
        assert waiting.status.endswith("Missing: 3 CPUs.")
        assert look(num_cpus=1, memory_bytes=1, on_one_node=on_one_node).result is WaitResult.REACHED
        assert isinstance(look(num_gpus=1, on_one_node=on_one_node).error, RayAgentResourcesError)
    assert capacity()["object_store"]["available"] > 0

    agent.request("POST", f"jobs/{job_id}/stop/")
    wait_until(lambda: look(num_cpus=4).result is WaitResult.REACHED or None, "the CPUs are not free again")
