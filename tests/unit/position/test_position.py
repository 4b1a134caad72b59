"""A trigger that takes over from another of the same try goes on where that one stopped."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import comms

from airflow_provider_rayagent.position import trigger_position
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY, PositionStore, read_position
from airflow_provider_rayagent.render.records import LAST_LINE_CHARS, LAST_LINES
from airflow_provider_rayagent.render.result import ResultFinder
from airflow_provider_rayagent.run.message_xcoms import MessageXComs
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel
from airflow_provider_rayagent.task_instance.xcoms import TriggerXComs
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.triggers import rayagent as triggers
from tests.scripted import Grow, Job, ScriptedAgent, SetStatus, Sleep, WaitFor
from tests.stack.watch import PATIENCE
from tests.unit.supervisor import needs_xcoms
from tests.unit.support import TaskInstance, task_log
from tests.unit.triggers.driver import follow, make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.run.outcome import Outcome
    from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

LINES = [f"line {number}" for number in range(1, 61)]


@pytest.fixture(autouse=True)
def _take_over_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "TAKE_OVER_SECONDS", 0.05)


def make_job(*, status: str = "RUNNING", lines: int = len(LINES), **overrides: Any) -> Job:
    return Job("".join(f"{line}\n" for line in LINES[:lines]), status, **overrides)


def lines_in(log: TaskLog) -> list[str]:
    known = set(LINES)
    return [line for message in log.messages for line in message.split("\n") if line in known]


async def killed(trigger: RayAgentJobTrigger, agent: ScriptedAgent, reached: Callable[[], object]) -> None:
    """Run a trigger until something is reached, and no further."""
    async with running(trigger):
        await agent.reached(reached)


def saved_lines(ti: TaskInstance) -> int:
    found = read_position(ti.xcoms.get(POSITION_KEY), ti)
    return found["lines"] if found else 0


def status_of(outcome: Outcome) -> Any:
    """Return the status of the job that was followed."""
    return outcome.job["status"] if outcome.job else None


def position_of(ti: TaskInstance, lines: int) -> dict[str, Any]:
    """Return what a trigger that has written so many lines saves."""
    from airflow_provider_rayagent.tail.text_reader import TextReader

    cursor = Cursor()
    TextReader(cursor, 16_000).feed_text("".join(f"{line}\n" for line in LINES[:lines]))
    return {"try": str(ti.id), "owner": "another", "position": cursor.to_json()}


@needs_xcoms
def test_a_new_trigger_of_the_same_try_goes_on_at_the_position(serve: Serve, ti: TaskInstance) -> None:
    job = make_job(lines=30)
    agent = serve(job)
    with task_log() as first:
        asyncio.run(killed(make_trigger(ti), agent, lambda: saved_lines(ti) == 30))
    job.grow("".join(f"{line}\n" for line in LINES[30:]))
    job.set_status("SUCCEEDED")
    with task_log() as second:
        assert status_of(follow(make_trigger(ti))) == "SUCCEEDED"
    assert lines_in(first) == LINES[:30]
    assert lines_in(second) == LINES[30:]
    assert [message.split(" of job")[0] for message in second.warnings] == ["RA-305: Resuming at line 31"]
    assert saved_lines(ti) == 60


@needs_xcoms
def test_what_was_written_since_the_last_save_is_repeated_and_nothing_is_missing(
    serve: Serve, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger(ti)):
            await agent.reached(lambda: saved_lines(ti) == 20)
            monkeypatch.setattr(trigger_position, "SAVE_SECONDS", 60.0)
            job.grow("".join(f"{line}\n" for line in LINES[20:40]))
            await agent.reached(lambda: len(lines_in(first)) == 40)

    job = make_job(lines=20)
    agent = serve(job)
    with task_log() as first:
        asyncio.run(run(agent))
    job.set_status("SUCCEEDED")
    with task_log() as second:
        follow(make_trigger(ti))
    assert (lines_in(first), lines_in(second)) == (LINES[:40], LINES[20:40])


@needs_xcoms
def test_a_result_in_a_line_that_two_triggers_have_read_is_whole(serve: Serve, ti: TaskInstance) -> None:
    markers = [("<START>", "<END>")]
    result = "x" * 40_000
    job = Job(f'{"y" * (MAX_LINE_LENGTH - 3)}<START>"{result[:20_000]}', "RUNNING")
    agent = serve(job)
    first = make_trigger(ti, result_markers=list(markers))
    asyncio.run(killed(first, agent, lambda: saved_lines(ti) == 2))
    saved = ti.xcoms[POSITION_KEY]["position"]
    assert saved["mid_line"]
    assert ResultFinder(markers, saved["result"]).state()["inside"]
    job.grow(f'{result[20_000:]}"<END>\n')
    job.set_status("SUCCEEDED")
    follow(make_trigger(ti, result_markers=list(markers)))
    assert ResultFinder(markers, ti.xcoms[POSITION_KEY]["result"]).value() == result


@needs_xcoms
@pytest.mark.parametrize("lines", [0, 10])
@pytest.mark.parametrize("saved_by", [None, "another try", "this try"])
def test_the_position_of_the_same_try_comes_before_the_one_in_the_arguments(
    saved_by: str | None, lines: int, serve: Serve, log: TaskLog, ti: TaskInstance
) -> None:
    if saved_by:
        saver = ti if saved_by == "this try" else replace(ti, id=uuid4())
        ti.xcoms[POSITION_KEY] = position_of(saver, 40)
        # An earlier release has forwarded so many lines after the cursor, which are repeated.
        ti.xcoms[POSITION_KEY]["position"]["again"] = 5
    serve(make_job(status="SUCCEEDED"))
    follow(make_trigger(ti, position=position_of(ti, lines)["position"] if lines else None))
    assert lines_in(log) == LINES[40 if saved_by == "this try" else lines :]
    resumed = ["RA-305: Resuming at line 41"] if saved_by == "this try" else []
    assert [message.split(" of job")[0] for message in log.warnings] == resumed


@needs_xcoms
def test_a_position_that_does_not_fit_the_log_means_the_whole_log_and_is_said(
    serve: Serve, log: TaskLog, ti: TaskInstance
) -> None:
    ti.xcoms[POSITION_KEY] = position_of(ti, 30)
    ti.xcoms[POSITION_KEY]["position"]["marks"][-1][1] = "00" * 16
    serve(make_job(status="SUCCEEDED"))
    follow(make_trigger(ti))
    assert lines_in(log) == LINES
    assert any("forwarding it again" in warning for warning in log.warnings)


@pytest.mark.parametrize(
    "value", [None, "x", 7, [], {}, {"position": {}}, {"position": None}, {"position": {"chars": -1}}]
)
def test_what_is_no_position_is_none(value: Any) -> None:
    ti = TaskInstance()
    if isinstance(value, dict):
        value = {"try": str(ti.id), **value}
    assert read_position(value, ti) is None


@needs_xcoms
def test_the_position_is_saved_a_while_after_it_moved_and_not_while_it_rests(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    writing = [action for line in LINES for action in (Grow(f"{line}\n"), Sleep(0.005))]
    job = Job("", "RUNNING", timeline=[*writing, Sleep(1.0), SetStatus("SUCCEEDED")])
    begun = time.monotonic()
    serve(job)
    follow(make_trigger(ti))
    took = time.monotonic() - begun
    counts = [value["position"]["lines"] for value in supervisor.saved]
    *meanwhile, last = counts
    assert meanwhile == sorted(set(meanwhile))
    assert last == len(LINES)
    assert 1 < len(counts) <= took / trigger_position.SAVE_SECONDS + 2
    assert len({value["owner"] for value in supervisor.saved}) == 1
    assert all(len(json.dumps(value)) < 2_000 for value in supervisor.saved)


@needs_xcoms
@pytest.mark.parametrize(("status", "kept"), [("SUCCEEDED", False), ("FAILED", True), ("STOPPED", True)])
def test_the_last_lines_are_saved_where_the_job_did_not_succeed(
    status: str, kept: bool, serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    serve(Job("\n".join([*LINES, "y" * 9_000]), status))
    follow(make_trigger(ti))
    last = [*LINES[-LAST_LINES + 1 :], "y" * LAST_LINE_CHARS]
    assert supervisor.saved[-1].get("last_lines") == (last if kept else None)
    assert not [value for value in supervisor.saved[:-1] if "last_lines" in value]


@needs_xcoms
@pytest.mark.parametrize("refused", [comms.SetXCom, comms.GetXCom])
def test_a_position_that_cannot_be_saved_or_read_is_said_once_and_the_job_is_followed_on(
    refused: type, serve: Serve, log: TaskLog, ti: TaskInstance, supervisor: Supervisor
) -> None:
    supervisor.refused = {refused}
    writing = [action for line in LINES for action in (Grow(f"{line}\n"), Sleep(0.01))]
    serve(Job("", "RUNNING", timeline=[*writing, SetStatus("SUCCEEDED")]))
    assert status_of(follow(make_trigger(ti))) == "SUCCEEDED"
    assert supervisor.asked.count("SetXCom") > 1
    assert len([warning for warning in log.warnings if "Failed to save or read the position" in warning]) == 1
    assert lines_in(log) == LINES


@pytest.mark.parametrize("is_there", [True, False])
def test_without_xcoms_for_asyncio_code_or_without_a_task_instance_nothing_is_kept(
    is_there: bool, serve: Serve, log: TaskLog, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aset", "aget_one") if is_there else ():
        monkeypatch.delattr(BaseXCom, name, raising=False)
    serve(make_job(status="FAILED"))
    assert status_of(follow(make_trigger(supervisor.ti if is_there else None))) == "FAILED"
    assert {"SetXCom", "GetXCom"}.isdisjoint(supervisor.asked)
    assert lines_in(log) == LINES


@needs_xcoms
def test_no_position_is_saved_that_is_ahead_of_the_log_file(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains: list[bool] = []

    async def drain_once(_: Channel) -> bool:
        drains.append(not drains)
        return drains[-1]

    monkeypatch.setattr(Channel, "_wait_until_drained", drain_once)
    monkeypatch.setattr(trigger_position, "SAVE_SECONDS", 0.1)
    written = [WaitFor(lambda: supervisor.saved), Grow("line 2\n"), WaitFor(lambda: len(drains) > 3)]
    serve(Job("line 1\n", "RUNNING", timeline=[*written, SetStatus("SUCCEEDED")]))
    assert status_of(follow(make_trigger(ti))) == "SUCCEEDED"
    assert [value["position"]["lines"] for value in supervisor.saved] == [1, 1]
    assert supervisor.saved[-1]["lines"] == 2
    assert log.warnings == ["RA-306: Airflow has not read all lines of this log in time; the last ones may be missing."]


@needs_xcoms
def test_a_position_is_not_saved_again_while_xcoms_cannot_be_set_yet(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, log: TaskLog
) -> None:
    refused: list[bool] = []

    async def push(*_: object) -> bool:
        # A position is updated some steps of the event loop after its line is written.
        if sum(refused) == 10:
            return True
        refused.append("line 1" in log.messages)
        return False

    monkeypatch.setattr(TriggerXComs, "is_due", True)
    monkeypatch.setattr(MessageXComs, "push_some", push)
    monkeypatch.setattr(trigger_position, "SAVE_SECONDS", 0.05)
    serve(Job("line 1\n", "RUNNING", timeline=[WaitFor(lambda: supervisor.saved_lines), SetStatus("SUCCEEDED")]))
    follow(make_trigger(ti))
    # Once more at the end; on a busy machine, a first save can come before the line.
    assert [lines for value in supervisor.saved if (lines := value["position"]["lines"])] == [1, 1]


@needs_xcoms
def test_a_trigger_that_is_cancelled_while_its_last_save_ends_is_cancelled(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def save_slowly(*_: object) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ends.set()
            await asyncio.sleep(0.3)

    async def run() -> None:
        async with running(make_trigger(ti)) as task:
            await ends.wait()
            task.cancel()
            await asyncio.wait((task,))
        assert task.cancelled()

    ends = asyncio.Event()
    monkeypatch.setattr(PositionStore, "save_changes", save_slowly)
    serve(Job("line 1\n", "SUCCEEDED"))
    asyncio.run(run())
    assert not supervisor.saved
