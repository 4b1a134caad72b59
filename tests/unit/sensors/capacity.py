"""Sensors for free resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.sensors.rayagent import RayAgentCapacitySensor
from tests.stack.watch import PATIENCE
from tests.unit.clusters import NODES, USED
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import Serve

HEAD, WORKER = "a" * 56, "b" * 56
READS = {"agent": "GET resources/cluster/", "ray": "GET nodes/"}
"""Route of the first request of each look, by service."""


def cluster(serve: Serve, service: str = "agent", **parts: Any) -> ScriptedAgent:
    """Start a server with 2.5 of 4 GPUs and 22.9 of 24 CPUs free."""
    return serve(service=service, **{"nodes": NODES, "used": USED, "token": TOKEN, **parts})


def make_sensor(**overrides: Any) -> RayAgentCapacitySensor:
    arguments = {"task_id": "wait", "timeout": PATIENCE, "poke_interval": 0.05, **overrides}
    if not arguments.keys() & {"num_gpus", "num_cpus", "memory_bytes"}:
        arguments["num_gpus"] = 4
    return RayAgentCapacitySensor(**arguments)
