"""A deferred task from its first worker through the triggerer to its last worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.unit.both_ways import execute
from tests.unit.sensors.factory import make_sensor, run
from tests.unit.support import TaskInstance, make_context


def deferral(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> TaskDeferred:
    """Execute a sensor that has to defer; return how it does."""
    with pytest.raises(TaskDeferred) as caught:
        run(ti, context, **{"deferrable": True, **overrides})
    return caught.value


def resume(next_method: str, next_kwargs: dict[str, Any] | None, context: Any = None, **overrides: Any) -> Any:
    """Go on after a deferral, in a process of its own as it were."""
    sensor = make_sensor(**{"deferrable": True, **overrides})
    return sensor.resume_execution(next_method, next_kwargs, context or make_context())


def run_deferred(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> Any:
    """Do as :func:`tests.unit.sensors.factory.run`, deferred."""
    return execute(lambda: make_sensor(**{"deferrable": True, **overrides}), context or make_context(ti))


Way = Callable[..., Any]
WAYS: dict[str, Way] = {"worker": run, "deferred": run_deferred}
