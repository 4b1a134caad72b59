"""Job sensors for the tests, and the processes that one goes through."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobStoppedError
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import execute
from tests.unit.support import TaskInstance, make_context


def make_sensor(**overrides: Any) -> RayAgentJobSensor:
    return RayAgentJobSensor(**{"task_id": "follow", "job_id": "j1", "timeout": PATIENCE, **overrides})


def run_in_worker(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> Any:
    """Execute a sensor; return what goes to XCom."""
    return make_sensor(**overrides).execute(context or make_context(ti))


def deferral(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> TaskDeferred:
    """Execute a sensor that has to defer; return how it does."""
    with pytest.raises(TaskDeferred) as caught:
        run_in_worker(ti, context, **{"deferrable": True, **overrides})
    return caught.value


def resume(next_method: str, next_kwargs: dict[str, Any] | None, context: Any = None, **overrides: Any) -> Any:
    """Go on after a deferral, in a process of its own as it were."""
    sensor = make_sensor(**{"deferrable": True, **overrides})
    return sensor.resume_execution(next_method, next_kwargs, context or make_context())


def run_deferred(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> Any:
    """Do as :func:`run_in_worker`, deferred."""
    return execute(lambda: make_sensor(**{"deferrable": True, **overrides}), context or make_context(ti))


def ending_as(status: str) -> AbstractContextManager[Any]:
    """Expect the error of a task whose job ends in this status; none if that is SUCCEEDED."""
    if status == "SUCCEEDED":
        return nullcontext()
    return pytest.raises(RayAgentJobStoppedError if status == "STOPPED" else RayAgentJobFailedError)
