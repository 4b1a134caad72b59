"""Sensors for Serve applications, and what an agent says of one."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor
from tests.scripted import Answer
from tests.stack.watch import PATIENCE

GET = "GET serve_applications/app/"
APP: dict[str, Any] = {
    "name": "app",
    "message": "",
    "route_prefix": "/app",
    "docs_path": None,
    "last_deployed_time_s": 1_700_000_000.5,
    "deployments": {"Model": {"status": "HEALTHY", "replicas": []}},
}


def said(status: str, **more: Any) -> Answer:
    """Return what the agent answers of an application in this status."""
    return Answer(200, {**APP, "status": status, **more})


def make_sensor(**overrides: Any) -> RayAgentServeApplicationSensor:
    arguments = {"task_id": "wait", "name": "app", "timeout": PATIENCE, "poke_interval": 0.05, **overrides}
    return RayAgentServeApplicationSensor(**arguments)
