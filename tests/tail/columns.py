"""The columns of the table. A new one is a function with the signature of :data:`Driver`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.agent.aio import AsyncAgent
from airflow_provider_rayagent.agent.errors import RayAgentError
from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobStoppedError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from airflow_provider_rayagent.logs.commands import Notice
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from tests.tail.drivers import SETTINGS, Driver, Outcome, config_of, hook_generator, quick_hook
from tests.unit.support import make_context

if TYPE_CHECKING:
    from airflow_provider_rayagent.agent.aio_follow import AsyncFollower
    from airflow_provider_rayagent.agent.following import Item
    from airflow_provider_rayagent.logs.commands import TailSettings


class QuickAsyncHook(RayAgentAsyncHook):
    """A hook that knows its connection and polls quickly."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._agent = AsyncAgent(config_of(url))

    async def follow_job(self, job_id: str, settings: TailSettings, **more: Any) -> AsyncFollower:
        return await super().follow_job(job_id, replace(SETTINGS, sources=settings.sources), **more)


def async_hook(url: str, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentAsyncHook.tail_job_logs``."""
    outcome = Outcome()

    async def follow() -> None:
        async with QuickAsyncHook(url) as hook:
            async for line in hook.tail_job_logs(job_id, protocol=protocol):  # type: ignore[arg-type]
                outcome.lines.append(line)  # what came before an error counts too

    try:
        asyncio.run(follow())
    except RayAgentError as error:
        outcome.error = error
    return outcome


class RecordingSensor(RayAgentJobSensor):
    """A sensor that keeps what it tells the task log."""

    outcome: Outcome

    def _tell(self, item: Item) -> None:
        if isinstance(item, str):
            self.outcome.lines.append(item)
        elif isinstance(item, Notice):
            self.outcome.notices.append(item.text)
        super()._tell(item)


def sensor(url: str, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentJobSensor``, as a task that runs in a worker does."""
    task = RecordingSensor(
        task_id="follow",
        job_id=job_id,
        protocol=protocol,  # type: ignore[arg-type]
        poke_interval=SETTINGS.poll_interval,
        timeout=60,
    )
    task.outcome = Outcome()
    task.__dict__["hook"] = quick_hook(url)
    try:
        task.poke(make_context())
    except (RayAgentJobFailedError, RayAgentJobStoppedError):
        pass
    except RayAgentError as error:
        task.outcome.error = error
    return task.outcome


DRIVERS: dict[str, Driver] = {"hook": hook_generator, "async hook": async_hook, "sensor": sensor}
