"""The columns of the table. A new one is a function with the signature of :data:`Driver`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobStoppedError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from airflow_provider_rayagent.run.follow_options import FollowOptions
from airflow_provider_rayagent.run.job_run import JobRun
from airflow_provider_rayagent.run.outcome import Outcome as TriggerOutcome
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from airflow_provider_rayagent.services.ray_service import RayService
from airflow_provider_rayagent.tail import draining
from airflow_provider_rayagent.tail.items import Notice, lines_in
from airflow_provider_rayagent.task_instance import supervisor_channel
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.triggers import rayagent as triggers
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from airflow_provider_rayagent.triggers.trigger_sink import TriggerSink
from tests.stack.watch import PATIENCE
from tests.tail.drivers import (
    POLL_SECONDS,
    SETTINGS,
    Driver,
    Outcome,
    argument_of,
    hook_generator,
    quick_hook,
)
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.render.records import JobRecords
    from airflow_provider_rayagent.run.observer import JobObserver
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
    from airflow_provider_rayagent.transport.tail_driver import Follower

supervisor_channel.BLIND_DRAIN_SECONDS = 0.0
# No row waits for this, and on a slow machine it must not pass.
draining.STREAM_SECONDS = 60.0
RayService.log_interval = POLL_SECONDS


def recorded(observer: JobObserver, outcome: Outcome) -> None:
    """Record what an observer writes to the task log."""
    wrote = observer.wrote

    async def recording(follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:
        keep(items, outcome)
        outcome.messages = records.printed.messages
        return await wrote(follower, records, items)

    observer.wrote = recording  # type: ignore[method-assign]


def keep(items: Sequence[Item], outcome: Outcome) -> None:
    outcome.lines += lines_in(items)
    outcome.notices += [item.text for item in items if isinstance(item, Notice)]


def sensor(config: ServiceConfig, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentJobSensor``, like a task that runs in a worker."""
    task = RayAgentJobSensor(
        task_id="follow",
        job_id=job_id,
        protocol=argument_of(protocol),
        timeout=PATIENCE,
    )
    hook = task.__dict__["hook"] = quick_hook(config)
    options = FollowOptions(protocol=argument_of(protocol), read_messages=True)
    context = make_context()
    task._run = JobRun(hook, job_id, context, task.log, options)
    outcome = Outcome()
    recorded(task._run.observer, outcome)
    try:
        task.poke(context)
    except (RayAgentJobFailedError, RayAgentJobStoppedError):
        pass
    except RayAgentError as error:
        outcome.error = error
    return outcome


class QuickAsyncHook(RayAgentAsyncHook):
    """A hook with a fixed connection."""

    def __init__(self, config: ServiceConfig) -> None:
        super().__init__()
        self._client = AsyncServiceClient(config)


class QuickFollowingHook(QuickAsyncHook):
    """The same, which polls quickly."""

    async def follow_job(self, job_id: str, settings: TailSettings, **more: Any) -> AsyncFollower:
        return await super().follow_job(job_id, replace(SETTINGS, sources=settings.sources), **more)


def async_hook(config: ServiceConfig, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentAsyncHook.tail_job_logs``."""
    outcome = Outcome()

    async def follow() -> None:
        async with (
            QuickFollowingHook(config) as hook,
            aclosing(hook.tail_job_logs(job_id, protocol=argument_of(protocol))) as lines,
        ):
            async for line in lines:
                outcome.lines.append(line)

    try:
        asyncio.run(follow())
    except RayAgentError as error:
        outcome.error = error
    return outcome


class RecordingTrigger(RayAgentJobTrigger):
    """A trigger that polls quickly and records what it writes to the task log."""

    config: ServiceConfig

    def _hook(self) -> RayAgentAsyncHook:
        return QuickFollowingHook(self.config)


# Rows run at the same time, each in a thread.
_outcome: ContextVar[Outcome] = ContextVar("outcome")


class RecordingSink(TriggerSink):
    """Records what a trigger writes to the task log."""

    async def wrote(self, follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:
        outcome = _outcome.get()
        keep(items, outcome)
        outcome.messages = records.printed.messages
        return await super().wrote(follower, records, items)


triggers.TriggerSink = RecordingSink  # type: ignore[attr-defined]


def trigger(config: ServiceConfig, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentJobTrigger``, like a deferred task."""
    task = RecordingTrigger(job_id=job_id, protocol=argument_of(protocol), read_messages=True)
    task.config = config
    outcome = Outcome()
    _outcome.set(outcome)

    async def event() -> Any:
        async with aclosing(task.run()) as events:
            return (await anext(events)).payload

    outcome.error = TriggerOutcome.from_event(asyncio.run(event())).error
    return outcome


DRIVERS: dict[str, Driver] = {"hook": hook_generator, "sensor": sensor, "trigger": trigger}
RAY_DRIVERS: dict[str, Driver] = {**DRIVERS, "async hook": async_hook}
"""Those of the rows over Ray's dashboard."""
