"""``on_kill`` of a trigger whose task is in a loop, that is not the one that follows the job, or that is slow."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.task_instance import stopping
from tests.scripted import Job
from tests.stack.watch import PATIENCE
from tests.unit.sensors.kills import ENDED_BY_A_USER, GOES_ON, STOP, kill_trigger, make_job
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import LoopTaskInstance, TaskInstance
from tests.unit.triggers.driver import fired, make_trigger, running

if TYPE_CHECKING:
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog


@pytest.mark.parametrize("map_index", [-1, 1])
@pytest.mark.parametrize("newest", [*ENDED_BY_A_USER, *GOES_ON])
def test_a_marked_iteration_of_a_loop_stops_its_job_whatever_the_newest_iteration_does(
    newest: str | None, map_index: int, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance(map_index=map_index)
    supervise(ti, monkeypatch).state = newest
    job = make_job()
    kill_trigger(serve(job), ti)
    assert job.stop_calls == 1


@pytest.mark.parametrize("newest", ["running", None])
@pytest.mark.parametrize(("map_index", "goes_on"), [(-1, False), (1, True)])
def test_a_cleared_iteration_of_a_loop_stops_its_job_unless_the_next_try_may_follow_it(
    newest: str | None, map_index: int, goes_on: bool, serve: Serve, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of a mapped task the state that Airflow gives may be that of the next try, which has none at first."""
    ti = LoopTaskInstance(map_index=map_index)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = newest
    supervisor.archived = True
    job = make_job()
    kill_trigger(serve(job), ti)
    assert job.stop_calls == (0 if goes_on else 1)
    assert log.warnings == []


def test_where_the_iterations_own_state_cannot_be_had_the_newest_counts(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance()
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = "deferred"
    supervisor.refused = {comms.GetXCom}
    job = make_job()
    kill_trigger(serve(job), ti)
    assert job.stop_calls == 0


@needs_xcoms
@pytest.mark.parametrize("replaced", [True, False], ids=["taken over by another", "no task instance"])
def test_a_trigger_that_does_not_speak_for_its_task_leaves_the_job_alone(
    replaced: bool, serve: Serve, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    job = make_job()
    kill_trigger(serve(job), supervisor.ti if replaced else None, replaced=replaced)
    assert job.stop_calls == 0


@pytest.mark.parametrize("has_fired", [True, False])
def test_a_trigger_that_has_fired_or_has_not_run_leaves_the_job_alone(
    has_fired: bool, serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    async def run() -> None:
        trigger = make_trigger(ti, stop_job_on_kill=True)
        if has_fired:
            await fired(trigger)
        await trigger.on_kill()

    supervisor.state = "success"
    agent = serve(Job("a\n"))
    asyncio.run(run())
    assert agent.of(STOP) == []
    assert has_fired or supervisor.asked == []


def test_a_kill_that_is_repeated_while_the_job_is_being_stopped_does_not_end_that(
    serve: Serve, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        trigger = make_trigger(ti, stop_job_on_kill=True)
        async with running(trigger):
            await agent.reached(lambda: agent.open_streams["j1"])
        killing = asyncio.create_task(trigger.on_kill())
        await agent.reached(asking.is_set)
        for _ in range(3):
            killing.cancel()
            await asyncio.sleep(0.02)
        repeated.set()
        await killing

    def slow(_: object, *, deferred: bool) -> str:
        asking.set()
        assert repeated.wait(PATIENCE), "the event loop stands still"
        return "failed"

    asking, repeated = threading.Event(), threading.Event()
    monkeypatch.setattr(stopping, "task_state", slow)
    job = make_job()
    agent = serve(job)
    asyncio.run(run())
    assert job.stop_calls == 1
