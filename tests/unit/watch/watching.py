"""Run a watcher against the scripted agent, with the state store of its asset."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher
from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, mark_of
from tests.scripted import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent

LIST = "GET jobs/"


class Store:
    """The state store of one asset.

    :param records: whether Airflow records events in it, as with our listener.
    """

    def __init__(self, *, records: bool = True) -> None:
        self.values: dict[str, Any] = {}
        self.records = records
        self.is_broken = False
        self.writes = 0

    async def aget(self, key: str) -> Any:
        await asyncio.sleep(0)
        if self.is_broken:
            raise RuntimeError("no luck")
        return json.loads(json.dumps(self.values.get(key)))

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.writes += 1
        self.values[key] = json.loads(json.dumps(value))

    def record(self, payload: Any) -> None:
        """Store an event."""
        mark = mark_of(payload)
        if self.records and mark is not None:
            ((key, value),) = self.values.items()
            assert key.endswith(mark[0])
            position = WatchPosition.from_json(value)
            assert position is not None
            self.values[key] = position.after(mark[1], mark[2], time.time()).to_json()


def ended(job_id: str, status: str = "SUCCEEDED", **details: Any) -> Job:
    return Job(status=status, job_id=job_id, ended=int(time.time() * 1000) + 1, details=details)


def add(agent: ScriptedAgent, *jobs: Job) -> None:
    # Replaced as a whole, since the agent reads it in its own thread.
    agent.jobs = {**agent.jobs, **{job.job_id: job for job in jobs}}


async def watch(
    agent: ScriptedAgent,
    count: int,
    store: Store | None = None,
    act: Callable[[], object] = bool,
    *,
    polls: int = 3,
    **arguments: Any,
) -> list[Any]:
    """Run a watcher, rebuilt from its stored form, until it has fired so many events and polled a few times more.

    :param act: is called once the watcher has listed the jobs.
    """
    _, stored = RayAgentJobWatcher(**{"poll_interval": 0.02, **arguments}).serialize()
    trigger: Any = RayAgentJobWatcher(**json.loads(json.dumps(stored)))
    trigger.asset_state_store = store
    payloads: list[Any] = []

    async def consume() -> None:
        async with aclosing(trigger.run()) as events:
            async for event in events:
                payloads.append(event.payload)
                if store is not None:
                    store.record(event.payload)

    async def lists(more: int) -> None:
        wanted = len(agent.of(LIST)) + more
        while len(agent.of(LIST)) < wanted:
            assert not consuming.done(), consuming.result()
            await asyncio.sleep(0.01)

    consuming = asyncio.create_task(consume())
    await lists(2)
    act()
    while len(payloads) < count:
        assert not consuming.done(), consuming.result()
        await asyncio.sleep(0.01)
    await lists(polls)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)
    return payloads


def ids(payloads: list[Any]) -> list[str]:
    return [payload["job_id"] for payload in payloads]
