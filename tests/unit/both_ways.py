"""A task from its first worker to its end: in a worker, or through the triggerer to a last worker.

What is the same both ways is one test, with a fixture of its module: ``run = both_ways(make_sensor)``.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]

from tests.unit.supervisor import supervise
from tests.unit.support import make_context
from tests.unit.triggers.driver import fired

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import TaskInstance

    Run = Callable[..., Any]


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


def both_ways(make: Callable[..., Any]) -> Any:
    """Return a fixture that executes a task, in a worker and deferred.

    Its value is called with ``context`` and the task's own arguments, and returns what goes to XCom.

    :param make: makes the task, of ``deferrable`` and the task's own arguments.
    """

    @pytest.fixture
    def run(way: str, monkeypatch: pytest.MonkeyPatch) -> Run:
        def executed(**options: Any) -> Any:
            context = options.pop("context", None) or make_context()
            supervise(context["ti"], monkeypatch)
            return execute(lambda: make(deferrable=way == "deferred", **options), context)

        return executed

    return run
