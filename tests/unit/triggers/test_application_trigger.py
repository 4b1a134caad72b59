"""The trigger that waits for a Serve application: its stored form, and its one event."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentConnectionError,
    RayAgentInputError,
    RayAgentServerError,
)
from airflow_provider_rayagent.services.application_wait import ApplicationOutcome
from airflow_provider_rayagent.services.waiting import WaitResult
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from tests.scripted import Application, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.sensors.applications import GET, said
from tests.unit.support import TOKEN, task_log
from tests.unit.triggers.driver import fired

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect

PATH = "airflow_provider_rayagent.triggers.applications.RayAgentServeApplicationTrigger"
EVERY_ARGUMENT: dict[str, Any] = {
    "name": "canary 7",
    "rayagent_conn_id": "team_a",
    "target": "gone",
    "poll_interval": 2.5,
    "grace_period": 7.0,
    "agent_unreachable_timeout": 8.0,
    "deadline": 1_800_000_000.5,
}


def wait(**overrides: Any) -> ApplicationOutcome:
    """Run a trigger, rebuilt from its stored form as a triggerer does; return what its one event says."""
    _, arguments = RayAgentServeApplicationTrigger(**{"name": "app", "poll_interval": 0.05, **overrides}).serialize()
    trigger: Any = RayAgentServeApplicationTrigger(**json.loads(json.dumps(arguments)))
    return ApplicationOutcome.from_event(asyncio.run(fired(trigger)))


def test_every_argument_is_stored_and_comes_back() -> None:
    assert EVERY_ARGUMENT.keys() == inspect.signature(RayAgentServeApplicationTrigger).parameters.keys()
    path, arguments = RayAgentServeApplicationTrigger(**EVERY_ARGUMENT).serialize()
    assert (path, arguments) == (PATH, EVERY_ARGUMENT)
    again = RayAgentServeApplicationTrigger(**json.loads(json.dumps(arguments, allow_nan=False)))
    assert again.serialize() == (path, arguments)


def test_an_argument_that_is_left_out_has_its_default_on_both_sides() -> None:
    path, arguments = RayAgentServeApplicationTrigger(name="app").serialize()
    assert RayAgentServeApplicationTrigger(**arguments).serialize() == (path, arguments)


def test_the_stored_path_leads_to_the_class() -> None:
    module, _, name = PATH.rpartition(".")
    assert getattr(importlib.import_module(module), name) is RayAgentServeApplicationTrigger


def test_airflows_own_encoding_of_a_trigger_gives_it_back() -> None:
    from airflow.serialization import decoders, encoders

    trigger: Any = RayAgentServeApplicationTrigger(**EVERY_ARGUMENT)
    stored = json.loads(json.dumps(encoders.encode_trigger(trigger)))
    assert stored["classpath"] == PATH
    decode: Any = decoders.smart_decode_trigger_kwargs
    assert {name: decode(value) for name, value in stored["kwargs"].items()} == EVERY_ARGUMENT


@pytest.mark.parametrize(
    ("target", "answers", "wanted", "status"),
    [
        ("running", [Refuse(404), said("DEPLOYING"), said("RUNNING")], WaitResult.REACHED, "RUNNING"),
        ("running", [said("UNHEALTHY"), said("RUNNING")], WaitResult.REACHED, "RUNNING"),
        ("running", [said("DEPLOYING"), Refuse(503), Refuse(401), said("RUNNING")], WaitResult.REACHED, "RUNNING"),
        ("running", [said("DEPLOYING"), said("DEPLOY_FAILED")], WaitResult.FAILED, "DEPLOY_FAILED"),
        ("gone", [said("UNHEALTHY"), said("DELETING"), Refuse(404)], WaitResult.REACHED, "not there"),
    ],
    ids=["deployed", "recovered", "agent away", "failed", "gone"],
)
def test_one_event_says_how_it_ended(
    target: str, answers: list[Step], wanted: WaitResult, status: str, connect: Connect
) -> None:
    with ScriptedAgent(answers={GET: answers}) as agent, task_log() as log:
        connect(agent)
        outcome = wait(target=target, grace_period=0.6)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert (outcome.result, outcome.status, outcome.error) == (wanted, status, None)
    assert log.messages[-1] == f"The Serve application 'app' is {status}."


def test_one_that_fails_is_looked_at_soon_again_whatever_the_interval(connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [said("UNHEALTHY"), said("RUNNING")]}) as agent:
        connect(agent)
        begun = time.monotonic()
        assert wait(poll_interval=PATIENCE).result is WaitResult.REACHED
        assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (said("DEPLOYING"), "DEPLOYING", None),
        (said("UNHEALTHY"), "UNHEALTHY", None),
        (Refuse(404), "not there", None),
        (Refuse(503), "not there", RayAgentServerError),
    ],
    ids=["deploying", "unhealthy", "not there", "away"],
)
@pytest.mark.parametrize("seconds", [0.3, -60])
def test_the_deadline_ends_it_after_one_more_look(
    seconds: float, answer: Step, status: str, error: type[Exception] | None, connect: Connect
) -> None:
    with ScriptedAgent(answers={GET: [answer]}) as agent:
        connect(agent)
        outcome = wait(deadline=time.time() + seconds, poll_interval=120)
        assert agent.requests
    assert (outcome.result, outcome.status) == (WaitResult.TIMED_OUT, status)
    assert type(outcome.error) is (error or type(None))


def test_one_that_is_running_when_the_deadline_has_passed_is_no_timeout(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application()]) as agent:
        connect(agent)
        assert wait(deadline=time.time() - 60).result is WaitResult.REACHED


def test_a_refused_token_ends_it_at_once_without_telling_it(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application()], token="another") as agent:
        connect(agent)
        outcome = wait()
        assert len(agent.requests) == 1
    assert outcome.result is WaitResult.AGENT_UNREACHABLE
    assert type(outcome.error) is RayAgentAuthenticationError
    assert TOKEN not in json.dumps(outcome.to_event())


def test_an_agent_that_is_out_of_reach_is_given_up_after_its_timeout(connect: Connect) -> None:
    connect(NO_AGENT)
    outcome = wait(agent_unreachable_timeout=0.3)
    assert outcome.result is WaitResult.AGENT_UNREACHABLE
    assert isinstance(outcome.error, RayAgentConnectionError)


def test_a_name_that_is_none_is_told_in_the_event(connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        assert type(wait(name="a/b", agent_unreachable_timeout=0.1).error) is RayAgentInputError
        assert agent.connections == 0
