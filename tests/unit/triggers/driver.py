"""Triggers on a real event loop, as a triggerer runs them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.run.outcome import Outcome
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.support import TaskInstance


def make_trigger(ti: TaskInstance | None = None, **overrides: Any) -> RayAgentJobTrigger:
    """Return a trigger that polls quickly, rebuilt from its stored form as a triggerer does."""
    asked_for = RayAgentJobTrigger(**{"job_id": "j1", "poll_interval": 0.1, **overrides})
    path, arguments = asked_for.serialize()
    assert path == "airflow_provider_rayagent.triggers.rayagent.RayAgentJobTrigger"
    trigger = RayAgentJobTrigger(**json.loads(json.dumps(arguments)))
    trigger.task_instance = ti  # type: ignore[assignment]
    return trigger


async def fired(trigger: RayAgentJobTrigger) -> Any:
    """Return the payload of the trigger's one event, which has to be JSON, and after which it has to end at once."""
    async with aclosing(trigger.run()) as events:
        event = await anext(events)
        end = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)
        assert end.done()
        assert end.result() is None
    return json.loads(json.dumps(event.payload))


def follow(trigger: RayAgentJobTrigger) -> Outcome:
    """Run a trigger to its event; return what that says."""
    return Outcome.from_event(asyncio.run(fired(trigger)))


@asynccontextmanager
async def running(trigger: RayAgentJobTrigger) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a trigger meanwhile, then cancel it as a triggerer that ends does; the task's result is the payload."""
    task = asyncio.create_task(fired(trigger))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
