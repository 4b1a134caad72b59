"""A task from its first worker to its end: in a worker, or through the triggerer to a last worker."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

from tests.unit.triggers.driver import fired

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import TaskInstance


def event_of(ti: TaskInstance | None, deferred: TaskDeferred) -> Any:
    """Run the trigger of a deferral, rebuilt from its stored form, as a triggerer does; return its event's payload."""
    path, arguments = deferred.trigger.serialize()
    trigger = import_string(path)(**json.loads(json.dumps(arguments)))
    trigger.task_instance = ti
    return asyncio.run(fired(trigger))


def execute(make: Callable[[], Any], context: Any) -> Any:
    """Execute a task that ``make`` makes; where it defers, go on with a new one, as another process does."""
    go_on = partial(make().execute, context)
    while True:
        try:
            return go_on()
        except TaskDeferred as deferred:  # noqa: PERF203 - the outcome of one process
            kwargs = {**(deferred.kwargs or {}), "event": event_of(context["ti"], deferred)}
            go_on = partial(make().resume_execution, str(deferred.method_name), kwargs, context)
