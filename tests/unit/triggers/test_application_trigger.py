"""The one event of the trigger that waits for a Serve application."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentAbsentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentServerError,
)
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from airflow_provider_rayagent.waits.application_wait import ApplicationOutcome
from airflow_provider_rayagent.waits.waiting import WaitResult
from tests.scripted import Refuse
from tests.stack.processes import NO_AGENT
from tests.unit.sensors.applications import GET, said
from tests.unit.support import TOKEN
from tests.unit.triggers.driver import fired

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect, Serve


def wait(**overrides: Any) -> ApplicationOutcome:
    """Run a trigger, rebuilt from its stored form as a triggerer does; return what its one event says."""
    _, arguments = RayAgentServeApplicationTrigger(**{"name": "app", "poll_interval": 0.05, **overrides}).serialize()
    trigger: Any = RayAgentServeApplicationTrigger(**json.loads(json.dumps(arguments)))
    return ApplicationOutcome.from_event(asyncio.run(fired(trigger)))


@pytest.mark.parametrize(
    ("answer", "wanted", "status", "error"),
    [
        (said("DEPLOYING"), WaitResult.TIMED_OUT, "DEPLOYING", None),
        (said("UNHEALTHY"), WaitResult.TIMED_OUT, "UNHEALTHY", None),
        (Refuse(404), WaitResult.TIMED_OUT, "not there", None),
        (Refuse(503), WaitResult.TIMED_OUT, "not there", RayAgentServerError),
        (said("RUNNING"), WaitResult.REACHED, "RUNNING", None),
    ],
    ids=["deploying", "unhealthy", "not there", "away", "running"],
)
@pytest.mark.parametrize("seconds", [0.3, -60])
def test_the_deadline_ends_it_after_one_more_look(
    seconds: float, answer: Step, wanted: WaitResult, status: str, error: type[Exception] | None, serve: Serve
) -> None:
    agent = serve(answers={GET: [answer]})
    outcome = wait(deadline=time.time() + seconds, poll_interval=120)
    assert agent.requests
    assert (outcome.result, outcome.status) == (wanted, status)
    assert type(outcome.error) is (error or type(None))


def test_what_keeps_it_from_an_answer_is_the_events_error(serve: Serve, connect: Connect) -> None:
    agent = serve(token="another")
    refused = wait()
    assert len(agent.requests) == 1
    invalid = wait(name="a/b", agent_unreachable_timeout=0.1)
    assert agent.connections == 1
    connect(NO_AGENT)
    unreachable = wait(agent_unreachable_timeout=0.3)
    outcomes = [refused, invalid, unreachable]
    assert {outcome.result for outcome in outcomes} == {WaitResult.AGENT_UNREACHABLE}
    errors = [RayAgentHTTPError, RayAgentInputError, RayAgentAbsentError]
    assert [type(outcome.error) for outcome in outcomes] == errors
    assert refused.error is not None
    assert refused.error.code is Code.TOKEN
    assert TOKEN not in json.dumps([outcome.to_event() for outcome in outcomes])
