"""A triggerer that stood still for long, was taken for dead and replaced, and wakes up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.position import trigger_position
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, PositionStore
from airflow_provider_rayagent.task_instance import supervisor_channel
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel, StallClock
from airflow_provider_rayagent.triggers import trigger_sink
from tests.scripted import Job
from tests.stack.watch import PATIENCE
from tests.unit.supervisor import needs_xcoms
from tests.unit.triggers.driver import make_trigger, running

if TYPE_CHECKING:
    from tests.unit.support import Serve, TaskInstance, TaskLog

STALL_SECONDS = 0.6


@pytest.fixture(autouse=True)
def _stalls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_channel, "STALL_SECONDS", STALL_SECONDS)


def freeze() -> None:
    """Stop the event loop for as long as it takes to be taken for dead."""
    time.sleep(STALL_SECONDS + 0.3)


def owned_by_another(ti: TaskInstance) -> dict[str, Any]:
    return {"try": str(ti.id), "owner": "another", "position": {}}


def take_overs_in(log: TaskLog) -> int:
    """Return how often a trigger has written that another one has taken over its job."""
    return len([message for message in log.messages if "has taken over job" in message])


async def seconds_of_silence(log: TaskLog, task: asyncio.Task[Any]) -> None:
    """Wait for as long as a trigger that goes on would need to write, save and fire."""
    told = len(log.messages)
    await asyncio.sleep(1.0)
    assert not task.done()
    assert len(log.messages) == told


@needs_xcoms
@pytest.mark.parametrize(
    ("save_seconds", "has_saved", "has_more_to_save"),
    [(0.1, True, False), (PATIENCE, False, False), (0.3, True, True)],
    ids=["saved", "not saved", "has more to save"],
)
def test_a_trigger_that_was_replaced_meanwhile_neither_writes_nor_saves_nor_fires(
    save_seconds: float,
    has_saved: bool,
    has_more_to_save: bool,
    serve: Serve,
    log: TaskLog,
    ti: TaskInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        async with running(make_trigger(ti)) as task:
            await agent.reached(lambda: "a" in log.messages)
            if has_saved:
                await agent.reached(lambda: POSITION_KEY in ti.xcoms)
            if has_more_to_save:
                job.grow("b\n")
                await agent.reached(lambda: "b" in log.messages)
            freeze()
            ti.xcoms[POSITION_KEY] = owned_by_another(ti)
            job.grow("c\n")
            job.set_status("SUCCEEDED")
            await agent.reached(lambda: take_overs_in(log))
            await seconds_of_silence(log, task)
        assert task.cancelled()

    monkeypatch.setattr(trigger_position, "SAVE_SECONDS", save_seconds)
    job = Job("a\n", "RUNNING")
    agent = serve(job)
    asyncio.run(run())
    assert "c" not in log.messages
    assert ti.xcoms[POSITION_KEY] == owned_by_another(ti)


@needs_xcoms
@pytest.mark.parametrize("replaced", [False, True])
def test_a_trigger_that_stood_still_goes_on_if_it_was_not_replaced_or_nobody_ends_it(
    replaced: bool, serve: Serve, log: TaskLog, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> Any:
        async with running(make_trigger(ti)) as task:
            await agent.reached(lambda: POSITION_KEY in ti.xcoms)
            freeze()
            if replaced:
                ti.xcoms[POSITION_KEY] = owned_by_another(ti)
                await agent.reached(lambda: take_overs_in(log) == 1)
                # A slow machine must not stall it once more.
                monkeypatch.setattr(supervisor_channel, "STALL_SECONDS", PATIENCE)
            job.grow("b\n")
            await agent.reached(lambda: "b" in log.messages)
            job.set_status("SUCCEEDED")
            return await asyncio.wait_for(task, PATIENCE)

    monkeypatch.setattr(trigger_sink, "REPLACED_PAUSE_SECONDS", STALL_SECONDS + 0.2)
    job = Job("a\n", "RUNNING")
    agent = serve(job)
    assert asyncio.run(run())["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\n") == ["a", "b"]
    assert take_overs_in(log) == replaced


@needs_xcoms
@pytest.mark.parametrize(
    ("saved", "owner", "ours"),
    [(False, None, True), (False, "another", False), (True, "me", True), (True, "another", False), (True, None, True)],
)
def test_a_position_is_ours_unless_another_trigger_has_put_its_own_there(
    saved: bool, owner: str | None, ours: bool, ti: TaskInstance
) -> None:
    async def run() -> bool:
        place = PositionStore(ti, None)
        if saved:
            await place.save()
        if owner == "another":
            ti.xcoms[POSITION_KEY] = owned_by_another(ti)
        elif owner is None:
            ti.xcoms.pop(POSITION_KEY, None)
        return await place.is_current_owner()

    assert asyncio.run(run()) is ours


def test_a_clock_that_is_asked_often_has_not_stalled_and_one_that_was_not_has(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    channel = Channel(None)
    clock, other = StallClock(channel), StallClock(channel)
    for asked in (clock, other) * 3:
        now[0] += STALL_SECONDS - 0.1
        assert asked() == now[0]
        assert not clock.stalled
    now[0] += STALL_SECONDS + 0.1
    other()
    clock()
    assert (clock.stalled, other.stalled, StallClock(channel).stalled) == (True, True, False)
    clock.handled = clock.stalls
    assert (clock.stalled, other.stalled) == (False, True)
