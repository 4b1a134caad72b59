"""``on_kill`` of the trigger: the job is stopped only if that is wanted, and only where a user ended the task."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.task_instance import stopping
from airflow_provider_rayagent.triggers.position import POSITION_KEY
from tests.scripted import Hold, Job, Play, Refuse, ScriptedAgent, Silence
from tests.stack.watch import PATIENCE
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import LoopTaskInstance, TaskInstance, task_log
from tests.unit.triggers.driver import fired, make_trigger, running

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect

STOP = "POST jobs/j1/stop/"
ENDED_BY_A_USER = [
    None,
    "failed",
    "success",
    "skipped",
    "removed",
    "restarting",
    "upstream_failed",
]
GOES_ON = ["deferred", "running", "up_for_retry", "up_for_reschedule", "scheduled", "queued"]


def make_job() -> Job:
    return Job("a\n", "RUNNING", ws=[Play(Hold())])


def kill(agent: ScriptedAgent, ti: TaskInstance, *, replaced: bool = False, **overrides: Any) -> None:
    """Run a trigger, then cancel it and call ``on_kill``, as a triggerer does on a user's act."""

    async def run() -> None:
        trigger = make_trigger(ti, **{"stop_job_on_kill": True, **overrides})
        async with running(trigger):
            await agent.reached(lambda: agent.open_streams["j1"])
            if replaced:
                await agent.reached(lambda: POSITION_KEY in ti.xcoms)
                ti.xcoms[POSITION_KEY] = {"try": str(ti.id), "owner": "another", "cursor": {}}
        await trigger.on_kill()
        await agent.reached(lambda: agent.open_connections == 0)

    asyncio.run(run())


@pytest.mark.parametrize("state", ENDED_BY_A_USER)
def test_a_user_who_ends_the_task_stops_the_job_once(
    state: str | None, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = state
    job = make_job()
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        kill(agent, ti)
    assert job.stop_calls == 1
    assert any("Stop of job j1 requested" in message for message in log.messages)


@pytest.mark.parametrize("state", GOES_ON)
def test_a_task_that_goes_on_leaves_the_job_alone(
    state: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = state
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, ti)
    assert job.stop_calls == 0


@pytest.mark.parametrize("map_index", [-1, 1])
@pytest.mark.parametrize("newest", [*ENDED_BY_A_USER, *GOES_ON])
def test_a_marked_iteration_of_a_loop_stops_its_job_whatever_the_newest_iteration_does(
    newest: str | None, map_index: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance(map_index=map_index)
    supervise(ti, monkeypatch).state = newest
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, ti)
    assert job.stop_calls == 1


@pytest.mark.parametrize("newest", ["running", None])
@pytest.mark.parametrize(("map_index", "goes_on"), [(-1, False), (1, True)])
def test_a_cleared_iteration_of_a_loop_stops_its_job_unless_the_next_try_may_follow_it_already(
    newest: str | None, map_index: int, goes_on: bool, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of a mapped task the state that Airflow gives may be that of the next try."""
    ti = LoopTaskInstance(map_index=map_index)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = newest
    supervisor.archived = True
    job = make_job()
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        kill(agent, ti)
    assert job.stop_calls == (0 if goes_on and newest else 1)
    assert log.warnings == []


def test_where_the_iterations_own_state_cannot_be_had_the_newest_counts(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance()
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = "deferred"
    supervisor.refused = {comms.GetXCom}
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, ti)
    assert job.stop_calls == 0


def test_by_default_the_job_is_left_alone_and_nothing_is_asked(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = "failed"
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, ti, stop_job_on_kill=False)
    assert job.stop_calls == 0
    assert "GetTaskStates" not in supervisor.asked


@needs_xcoms
def test_a_trigger_that_another_has_taken_over_from_leaves_the_job_alone(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    job = Job("a\n", "RUNNING")
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, ti, replaced=True)
    assert job.stop_calls == 0


def test_a_trigger_that_has_fired_leaves_the_job_alone(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        trigger = make_trigger(ti, stop_job_on_kill=True)
        await fired(trigger)
        await trigger.on_kill()

    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "success"
    with ScriptedAgent(Job("a\n")) as agent:
        connect(agent)
        asyncio.run(run())
        assert agent.of(STOP) == []


def test_a_trigger_that_has_not_run_leaves_the_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstance()
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = "failed"
    asyncio.run(make_trigger(ti, stop_job_on_kill=True).on_kill())
    assert supervisor.asked == []


def test_where_there_is_no_task_instance_the_job_is_left_alone(
    connect: Connect,
) -> None:
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        kill(agent, None)  # type: ignore[arg-type]
    assert job.stop_calls == 0


@pytest.mark.parametrize("answer", [Refuse(500, "no luck"), Refuse(404)])
def test_a_stop_that_fails_is_said_and_not_raised(
    answer: Step, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    with ScriptedAgent(make_job(), answers={STOP: [answer]}) as agent, task_log() as log:
        connect(agent)
        kill(agent, ti)
        assert len(agent.of(STOP)) == 1
    assert any("Failed to stop job" in message for message in log.messages)


def test_an_agent_that_does_not_answer_is_not_waited_for_longer_than_its_connection_says(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    with ScriptedAgent(make_job(), answers={STOP: [Play(Silence())]}) as agent, task_log() as log:
        connect(agent, extra={"read_timeout": 0.3})
        kill(agent, ti)
    assert any("Failed to stop job" in message for message in log.messages)


def test_a_kill_that_is_repeated_while_the_job_is_being_stopped_does_not_end_that(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
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
    ti = TaskInstance()
    supervise(ti, monkeypatch)
    monkeypatch.setattr(stopping, "task_state", slow)
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        asyncio.run(run())
    assert job.stop_calls == 1


def test_asking_for_the_state_does_not_block_the_event_loop(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        trigger = make_trigger(ti, stop_job_on_kill=True)
        ticks = 0
        async with running(trigger):
            await agent.reached(lambda: agent.open_streams["j1"])
        killing = asyncio.create_task(trigger.on_kill())
        while not killing.done():
            ticks += 1
            if ticks == 10:
                ticked.set()
            await asyncio.sleep(0.01)

    def slow(_: object, *, deferred: bool) -> str:
        assert ticked.wait(PATIENCE), "the event loop stands still"
        return "running"

    ticked = threading.Event()

    ti = TaskInstance()
    supervise(ti, monkeypatch)
    monkeypatch.setattr(stopping, "task_state", slow)
    with ScriptedAgent(make_job()) as agent:
        connect(agent)
        asyncio.run(run())
    assert ticked.is_set()
