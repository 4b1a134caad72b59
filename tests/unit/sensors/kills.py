"""A task whose process is killed: by a signal in a worker, or as a triggerer ends a trigger."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from tests.scripted import Do, Follow, Hold, Job, Play, ScriptedAgent, WaitForStream
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import make_context
from tests.unit.triggers.driver import make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
    from tests.unit.support import TaskInstance

STOP = "POST jobs/j1/stop/"
ENDED_BY_A_USER = [None, "failed", "success", "skipped", "removed", "restarting", "upstream_failed"]
GOES_ON = ["deferred", "running", "up_for_retry", "up_for_reschedule", "scheduled", "queued"]


def make_job(text: str = "a\n") -> Job:
    """Return a job that goes on, with a stream that stays open."""
    return Job(text, "RUNNING", ws=[Play(Follow(), Hold())])


def send_signal(number: signal.Signals = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), number)


@contextmanager
def killing(sensor: RayAgentJobSensor) -> Iterator[list[float]]:
    """Have a signal kill the sensor meanwhile, as Airflow does; give the seconds that its handler took."""
    took: list[float] = []

    def on_signal(*_: object) -> None:
        begun = time.monotonic()
        sensor.on_kill()
        took.append(time.monotonic() - begun)

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        yield took
    finally:
        signal.signal(signal.SIGUSR1, before)


def kill_in_worker(agent: ScriptedAgent, ti: TaskInstance, **overrides: Any) -> float:
    """Run a sensor until a signal kills it as it waits; return the seconds that the signal's handler took."""
    sensor = make_sensor(**{"stop_job_on_kill": True, "poke_interval": PATIENCE, **overrides})
    agent.jobs["j1"].timeline = [WaitForStream(), Do(send_signal)]
    with killing(sensor) as took:
        assert sensor.poke(make_context(ti)) is False
    agent.wait_until(lambda: agent.open_connections == 0)
    return took[0]


def kill_trigger(agent: ScriptedAgent, ti: TaskInstance | None, *, replaced: bool = False, **overrides: Any) -> None:
    """Run a trigger, then cancel it and call ``on_kill``, as a triggerer does on a user's act."""

    async def run() -> None:
        trigger = make_trigger(ti, **{"stop_job_on_kill": True, **overrides})
        async with running(trigger):
            await agent.reached(lambda: agent.open_streams["j1"])
            if replaced and ti is not None:
                await agent.reached(lambda: POSITION_KEY in ti.xcoms)
                ti.xcoms[POSITION_KEY] = {"try": str(ti.id), "owner": "another", "position": {}}
        await trigger.on_kill()
        await agent.reached(lambda: agent.open_connections == 0)

    asyncio.run(run())
