"""A deferred task from its first worker through the triggerer to its last worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.unit.sensors.factory import make_sensor, run
from tests.unit.support import TaskInstance, make_context
from tests.unit.triggers.driver import fired, make_trigger


def deferral(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> TaskDeferred:
    """Execute a sensor that has to defer; return how it does."""
    with pytest.raises(TaskDeferred) as caught:
        run(ti, context, **{"deferrable": True, **overrides})
    return caught.value


def event_of(ti: TaskInstance | None, deferred: TaskDeferred) -> Any:
    """Run the trigger of a deferral in a triggerer; return its event's payload."""
    _, arguments = deferred.trigger.serialize()
    return asyncio.run(fired(make_trigger(ti, **json.loads(json.dumps(arguments)))))


def resume(next_method: str, next_kwargs: dict[str, Any] | None, context: Any = None, **overrides: Any) -> Any:
    """Go on after a deferral, in a process of its own as it were."""
    sensor = make_sensor(**{"deferrable": True, **overrides})
    return sensor.resume_execution(next_method, next_kwargs, context or make_context())


def run_deferred(ti: TaskInstance | None = None, context: Any = None, **overrides: Any) -> Any:
    """Do as :func:`tests.unit.sensors.factory.run`, deferred."""
    ti = ti or (context or make_context())["ti"]
    context = context or make_context(ti)
    overrides = {"deferrable": True, **overrides}
    try:
        return run(ti, context, **overrides)
    except TaskDeferred as deferred:
        return resume(str(deferred.method_name), {"event": event_of(ti, deferred)}, context, **overrides)


Way = Callable[..., Any]
WAYS: dict[str, Way] = {"worker": run, "deferred": run_deferred}
