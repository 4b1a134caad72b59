"""A trigger ends in each of its phases: what becomes of the job, and each line is written once all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from airflow_provider_rayagent.triggers import rayagent as triggers
from tests.scripted import DEFAULT, Follow, Hold, Job, Play
from tests.unit.supervisor import needs_xcoms
from tests.unit.triggers.driver import fired, make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

    Begin = Callable[[ScriptedAgent, Job, Supervisor], Callable[[], object]]

pytestmark = needs_xcoms
GET = "GET jobs/j1/"
HELD = [Play(Hold())]


def looking_for_the_job(agent: ScriptedAgent, job: Job, supervisor: Supervisor) -> Callable[[], object]:
    agent.answers[GET] = HELD
    return lambda: agent.of(GET)


def following_it(agent: ScriptedAgent, job: Job, supervisor: Supervisor) -> Callable[[], object]:
    return lambda: supervisor.saved_lines == 2


def reading_the_end_of_its_log(agent: ScriptedAgent, job: Job, supervisor: Supervisor) -> Callable[[], object]:
    job.ws = job.sse = job.full = HELD
    job.set_status("SUCCEEDED")
    return lambda: any(request.route != GET for request in agent.requests)


PHASES: tuple[Begin, ...] = (looking_for_the_job, following_it, reading_the_end_of_its_log)
GOES_ON = {"triggerer ends": None, "heartbeat missed": "deferred", "worker resumes": "running"}
"""Events after which another process follows the job, with the task's state if Airflow asks the trigger to end."""
MARKED = "failed"


@pytest.fixture
def job() -> Job:
    return Job("a\nb\n", "RUNNING", ws=[Play(Follow(), Hold())])


@pytest.fixture(autouse=True)
def _take_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "TAKE_OVER_SECONDS", 0.0)


async def cancelled_trigger(
    begin: Begin, agent: ScriptedAgent, job: Job, supervisor: Supervisor
) -> triggers.RayAgentJobTrigger:
    trigger = make_trigger(supervisor.ti, stop_job_on_kill=True)
    has_begun = begin(agent, job, supervisor)
    async with running(trigger) as task:
        await agent.reached(has_begun)
    assert task.cancelled()
    return trigger


@pytest.mark.parametrize("event", GOES_ON)
@pytest.mark.parametrize("begin", PHASES, ids=lambda phase: phase.__name__)
def test_the_next_trigger_goes_on_where_one_has_ended(
    begin: Begin, event: str, job: Job, serve: Serve, supervisor: Supervisor, log: TaskLog
) -> None:
    async def run() -> None:
        trigger = await cancelled_trigger(begin, agent, job, supervisor)
        if GOES_ON[event] is not None:
            supervisor.state = GOES_ON[event]
            await trigger.on_kill()
        await agent.reached(lambda: agent.open_connections == 0)
        assert job.stop_calls == 0
        agent.answers[GET] = [DEFAULT]
        job.ws = job.sse = job.full = []
        job.grow("c\n")
        job.set_status("SUCCEEDED")
        assert (await fired(make_trigger(supervisor.ti)))["status"] == "SUCCEEDED"

    agent = serve(job)
    asyncio.run(run())
    assert log.lines_of("a\nb\nc\n") == ["a", "b", "c"]


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("begin", PHASES, ids=lambda phase: phase.__name__)
def test_a_user_ends_it(
    begin: Begin, replaced: bool, job: Job, serve: Serve, supervisor: Supervisor, log: TaskLog
) -> None:
    """Unless another trigger has taken over, its job is stopped."""

    async def run() -> None:
        trigger = await cancelled_trigger(begin, agent, job, supervisor)
        if replaced:
            supervisor.ti.xcoms[POSITION_KEY] = {"try": str(supervisor.ti.id), "owner": "another", "position": {}}
        supervisor.state = MARKED
        await trigger.on_kill()
        await agent.reached(lambda: agent.open_connections == 0)

    agent = serve(job)
    asyncio.run(run())
    ends_before = begin is reading_the_end_of_its_log
    agent.wait_until(lambda: job.status == ("SUCCEEDED" if ends_before else "RUNNING" if replaced else "STOPPED"))
    assert job.stop_calls == (not replaced)
    assert log.lines_of("a\nb\n") == (["a", "b"] if begin is following_it else [])
