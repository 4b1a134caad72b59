"""What the trigger's event says, whatever becomes of the job and of the agent."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentConnectionRefusedError,
    RayAgentError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentServerError,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from tests.scripted import DEFAULT, Down, Grow, Hold, Html, Job, Play, Refuse, Reset, ScriptedAgent, SetStatus, Sleep
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.support import TOKEN, named, task_log, until
from tests.unit.triggers.driver import follow, make_trigger, running

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect

GET = "GET jobs/j1/"


def make_silent_job(**overrides: Any) -> Job:
    """Return a job that runs on, with a stream that stays open."""
    return Job(**{"text": "a\n", "status": "RUNNING", "ws": [Play(Hold())], **overrides})


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
@pytest.mark.parametrize("forward_logs", [True, False])
def test_the_event_says_how_the_job_ended(status: str, forward_logs: bool, connect: Connect) -> None:
    job = Job(status="PENDING", timeline=[SetStatus("RUNNING"), Grow("a\n"), Sleep(0.2), SetStatus(status)])
    with ScriptedAgent(job, token=TOKEN) as agent:
        connect(agent)
        outcome = follow(make_trigger(forward_logs=forward_logs))
        agent.wait_until(lambda: agent.open_connections == 0)
    assert (outcome.end, outcome.job, outcome.error) == (End.JOB_ENDED, {"status": status}, None)


def test_a_status_that_is_not_known_is_watched_on_and_warned_of_once(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", polls=["MIGRATING", "MIGRATING", "SUCCEEDED"])) as agent:
        connect(agent)
        with task_log() as log:
            assert follow(make_trigger()).job == {"status": "SUCCEEDED"}
    assert len([warning for warning in log.warnings if "'MIGRATING'" in warning]) == 1


def test_a_status_that_is_not_known_with_an_end_is_an_end(connect: Connect) -> None:
    with ScriptedAgent(Job(status="EVICTED", details={"end_time": 5})) as agent:
        connect(agent)
        outcome = follow(make_trigger())
    assert (outcome.end, outcome.job) == (End.JOB_ENDED, {"status": "EVICTED"})


@pytest.mark.parametrize("known", [False, True])
def test_a_job_that_the_agent_does_not_know_is_missing(known: bool, connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(404)] if known else [Refuse(404)]}
    with ScriptedAgent(make_silent_job(), answers=answers) as agent:
        connect(agent)
        outcome = follow(make_trigger(job_missing_timeout=0.4))
    assert (outcome.end, outcome.job) == (End.JOB_MISSING, {"status": "RUNNING"} if known else None)
    assert type(outcome.error) is RayAgentNotFoundError


def test_an_agent_that_stays_away_is_the_last_error(connect: Connect) -> None:
    with ScriptedAgent(make_silent_job(), answers={GET: [DEFAULT, Refuse(503, "no luck")]}) as agent:
        connect(agent)
        outcome = follow(make_trigger(agent_unreachable_timeout=0.5))
    assert (outcome.end, outcome.job) == (End.AGENT_UNREACHABLE, {"status": "RUNNING"})
    assert type(outcome.error) is RayAgentServerError
    assert (outcome.error.status_code, "no luck" in outcome.error.detail) == (503, True)


def test_where_nothing_listens_that_is_the_error(connect: Connect) -> None:
    connect(NO_AGENT)
    error = follow(make_trigger(agent_unreachable_timeout=0.3)).error
    assert type(error) is RayAgentConnectionRefusedError


def test_a_refused_token_ends_it_at_the_first_look(connect: Connect) -> None:
    with ScriptedAgent(make_silent_job(), token="another") as agent:
        connect(agent)
        with task_log() as log:
            error = follow(make_trigger()).error
        assert len(agent.requests) == 1
    assert type(error) is RayAgentAuthenticationError
    assert TOKEN not in str(error)
    assert not [message for message in log.messages if TOKEN in message]


@pytest.mark.parametrize(
    ("url", "job_id", "kind"), [("ftp://x", "j1", RayAgentConfigError), (NO_AGENT, "../x", RayAgentInputError)]
)
def test_what_keeps_it_from_beginning_is_the_events_error(
    url: str, job_id: str, kind: type[RayAgentError], connect: Connect
) -> None:
    connect(url)
    outcome = follow(make_trigger(job_id=job_id))
    assert (outcome.end, type(outcome.error)) == (None, kind)


@pytest.mark.parametrize(
    "away", [[Down(0.3, "restart")], [Refuse(503)] * 2, [Html(502)], [Play(Reset())] * 2, [Refuse(401)]], ids=named
)
def test_an_agent_that_is_away_for_a_while_does_not_decide_the_outcome(away: list[Step], connect: Connect) -> None:
    job = Job("a\n", "RUNNING", timeline=[Sleep(0.5), SetStatus("SUCCEEDED")])
    with ScriptedAgent(job, answers={GET: [DEFAULT, *away, DEFAULT]}) as agent, task_log() as log:
        connect(agent)
        assert follow(make_trigger()).job == {"status": "SUCCEEDED"}
    assert log.lines_of("a\n") == ["a"]


@pytest.mark.parametrize("seconds", [-100.0, 0.4])
def test_a_job_that_goes_on_past_the_deadline_is_looked_at_once_more(seconds: float, connect: Connect) -> None:
    with ScriptedAgent(make_silent_job()) as agent:
        connect(agent)
        begun = time.monotonic()
        outcome = follow(make_trigger(deadline=time.time() + seconds, poll_interval=PATIENCE))
        assert time.monotonic() - begun < PATIENCE
        *earlier, last = agent.of(GET)
        assert len(earlier) <= (1 if seconds > 0 else 0)
        assert last.time >= begun + seconds
    assert (outcome.end, outcome.job, outcome.error) == (End.TIMED_OUT, {"status": "RUNNING"}, None)


@pytest.mark.parametrize("seconds", [-100.0, 0.4])
def test_a_job_that_is_seen_to_have_ended_at_the_last_look_is_no_timeout(seconds: float, connect: Connect) -> None:
    deadline = time.time() + seconds
    with ScriptedAgent(make_silent_job(polls=until(deadline))) as agent, task_log() as log:
        connect(agent)
        outcome = follow(make_trigger(deadline=deadline, poll_interval=PATIENCE))
    assert (outcome.end, outcome.job) == (End.JOB_ENDED, {"status": "SUCCEEDED"})
    assert log.lines_of("a\n") == ["a"]


def test_the_deadline_is_a_moment_so_that_a_new_trigger_does_not_begin_it_anew(connect: Connect) -> None:
    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger(deadline=deadline)):
            await agent.reached(lambda: time.time() > deadline - 0.5)

    deadline = time.time() + 1.0
    with ScriptedAgent(make_silent_job()) as agent:
        connect(agent)
        asyncio.run(run(agent))
        assert follow(make_trigger(deadline=deadline)).end is End.TIMED_OUT


@pytest.mark.parametrize("own", [None, 3600.0])
def test_without_a_deadline_airflows_own_timeout_is_one_with_time_to_spare(own: float | None, connect: Connect) -> None:
    with ScriptedAgent(make_silent_job()) as agent:
        connect(agent)
        trigger = make_trigger(deadline=None if own is None else time.time() + own, agent_unreachable_timeout=0.4)
        trigger.timeout_after = datetime.now(tz=timezone.utc) + timedelta(seconds=TIMEOUT_MARGIN + 0.2)
        if own is not None:
            agent.answers = {GET: [Refuse(503)]}
        assert follow(trigger).end is (End.TIMED_OUT if own is None else End.AGENT_UNREACHABLE)


def test_a_trigger_that_is_cancelled_fires_nothing_and_leaves_no_connection(connect: Connect) -> None:
    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger()) as task:
            await agent.reached(lambda: agent.open_streams["j1"])
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await agent.reached(lambda: agent.open_connections == 0)

    job = make_silent_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        asyncio.run(run(agent))
    assert job.stop_calls == 0
