"""Sensors for the tests."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from tests.stack.watch import PATIENCE
from tests.unit.support import TaskInstance, make_context


def make_sensor(**overrides: Any) -> RayAgentJobSensor:
    return RayAgentJobSensor(**{"task_id": "follow", "job_id": "j1", "timeout": PATIENCE, **overrides})


def run(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> Any:
    """Execute a sensor; return what goes to XCom."""
    return make_sensor(**overrides).execute(context or make_context(ti))
