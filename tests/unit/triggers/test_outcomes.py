"""The trigger's event, and the moments at which it gives up; what becomes of the task is in ``sensors``."""

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
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentServerError,
)
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from tests.scripted import DEFAULT, Hold, Job, Play, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.support import TOKEN, until
from tests.unit.triggers.driver import follow, make_trigger, running

if TYPE_CHECKING:
    from tests.unit.support import Connect, Serve, TaskLog

GET = "GET jobs/j1/"


def make_silent_job(**overrides: Any) -> Job:
    """Return a job that runs on, with a stream that stays open."""
    return Job(**{"text": "a\n", "status": "RUNNING", "ws": [Play(Hold())], **overrides})


@pytest.mark.parametrize(
    ("script", "end", "status", "error"),
    [
        ({"polls": ["RUNNING", "SUCCEEDED"]}, End.JOB_ENDED, "SUCCEEDED", None),
        ({"status": "FAILED"}, End.JOB_ENDED, "FAILED", None),
        ({"status": "STOPPED"}, End.JOB_ENDED, "STOPPED", None),
        ({"status": "EVICTED", "details": {"end_time": 5}}, End.JOB_ENDED, "EVICTED", None),
        ([Refuse(404)], End.JOB_MISSING, None, RayAgentNotFoundError),
        ([DEFAULT, Refuse(404)], End.JOB_MISSING, "RUNNING", RayAgentNotFoundError),
        ([DEFAULT, Refuse(503)], End.AGENT_UNREACHABLE, "RUNNING", RayAgentServerError),
        ([Refuse(401)], End.AGENT_UNREACHABLE, None, RayAgentAuthenticationError),
    ],
    ids=str,
)
@pytest.mark.parametrize("forward_logs", [True, False])
def test_the_event_says_how_it_ended(
    forward_logs: bool, script: Any, end: End, status: str | None, error: type[Exception] | None, serve: Serve
) -> None:
    is_job = isinstance(script, dict)
    agent = serve(make_silent_job(**(script if is_job else {})), answers={} if is_job else {GET: script})
    outcome = follow(make_trigger(forward_logs=forward_logs, job_missing_timeout=0.4, agent_unreachable_timeout=0.4))
    agent.wait_until(lambda: agent.open_connections == 0)
    assert (outcome.end, outcome.job) == (end, {"status": status} if status else None)
    assert type(outcome.error) is (error or type(None))


@pytest.mark.parametrize(
    ("url", "job_id", "end", "kind"),
    [
        ("ftp://x", "j1", None, RayAgentConfigError),
        (NO_AGENT, "../x", None, RayAgentInputError),
        (NO_AGENT, "j1", End.AGENT_UNREACHABLE, RayAgentConnectionRefusedError),
    ],
)
def test_what_keeps_it_from_beginning_is_the_events_error(
    url: str, job_id: str, end: End | None, kind: type[Exception], connect: Connect, log: TaskLog
) -> None:
    connect(url)
    outcome = follow(make_trigger(job_id=job_id, agent_unreachable_timeout=0.3))
    assert (outcome.end, type(outcome.error)) == (end, kind)
    assert not [text for text in (str(outcome.error), *log.messages) if TOKEN in text]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("seconds", [-100.0, 0.4])
def test_a_job_that_goes_on_until_the_deadline_is_looked_at_once_more(
    seconds: float, ends: bool, serve: Serve, log: TaskLog
) -> None:
    begun, deadline = time.monotonic(), time.time() + seconds
    agent = serve(make_silent_job(**({"polls": until(deadline)} if ends else {})))
    outcome = follow(make_trigger(deadline=deadline, poll_interval=PATIENCE))
    assert time.monotonic() - begun < PATIENCE
    if ends:
        assert (outcome.end, outcome.job) == (End.JOB_ENDED, {"status": "SUCCEEDED"})
        assert log.lines_of("a\n") == ["a"]
    else:
        *earlier, last = agent.of(GET)
        assert len(earlier) <= (1 if seconds > 0 else 0)
        assert last.time >= begun + seconds
        assert (outcome.end, outcome.job, outcome.error) == (End.TIMED_OUT, {"status": "RUNNING"}, None)


def test_the_deadline_is_a_moment_so_that_a_new_trigger_does_not_begin_it_anew(serve: Serve) -> None:
    async def run(agent: ScriptedAgent) -> None:
        async with running(make_trigger(deadline=deadline)):
            await agent.reached(lambda: time.time() > deadline - 0.5)

    deadline = time.time() + 1.0
    asyncio.run(run(serve(make_silent_job())))
    assert follow(make_trigger(deadline=deadline)).end is End.TIMED_OUT


@pytest.mark.parametrize("own", [None, 3600.0])
def test_without_a_deadline_airflows_own_timeout_is_one_with_time_to_spare(own: float | None, serve: Serve) -> None:
    agent = serve(make_silent_job())
    trigger = make_trigger(deadline=None if own is None else time.time() + own, agent_unreachable_timeout=0.4)
    trigger.timeout_after = datetime.now(tz=timezone.utc) + timedelta(seconds=TIMEOUT_MARGIN + 0.2)
    if own is not None:
        agent.answers = {GET: [Refuse(503)]}
    assert follow(trigger).end is (End.TIMED_OUT if own is None else End.AGENT_UNREACHABLE)


def test_a_trigger_that_is_cancelled_fires_nothing_and_leaves_no_connection(serve: Serve) -> None:
    async def run() -> None:
        async with running(make_trigger()) as task:
            await agent.reached(lambda: agent.open_streams["j1"])
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await agent.reached(lambda: agent.open_connections == 0)

    job = make_silent_job()
    agent = serve(job)
    asyncio.run(run())
    assert job.stop_calls == 0
