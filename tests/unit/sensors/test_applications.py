"""The sensor for a Serve application, in a worker and deferred."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentConnectionError,
    RayAgentInputError,
    RayAgentPermissionError,
    RayAgentServeApplicationFailedError,
    RayAgentServeApplicationTimeoutError,
    RayAgentServerError,
)
from tests.scripted import Application, Down, Html, Play, Refuse, Reset, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.both_ways import execute
from tests.unit.sensors.applications import APP, GET, make_sensor, said
from tests.unit.support import TOKEN, make_context, named, task_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor
    from tests.scripted import Step
    from tests.unit.support import Connect

RESULT = {**APP, "status": "RUNNING", "deployments": {"Model": "HEALTHY"}}


@pytest.fixture(params=["worker", "deferred"])
def way(request: pytest.FixtureRequest) -> str:
    """Where the sensor waits."""
    return str(request.param)


@pytest.fixture
def run(way: str) -> Callable[..., Any]:
    """Execute a sensor, in a worker or deferred; the arguments are the sensor's own."""
    return lambda **options: execute(lambda: make_sensor(deferrable=way == "deferred", **options), make_context())


@pytest.mark.parametrize(
    "before",
    [
        [],
        [Refuse(404)] * 2,
        [said("NOT_STARTED"), said("DEPLOYING")],
        [said("UNHEALTHY")] * 2,
        [said("DEPLOY_FAILED"), said("DEPLOYING")],
        [said("A_NEW_ONE")],
        [Refuse(404), Refuse(503), Html(502), Play(Reset())],
        [Refuse(404), Down(0.2)],
        [Refuse(404), said("DEPLOYING"), Refuse(401)],
    ],
    ids=named,
)
def test_an_application_is_waited_for_until_it_is_running(
    before: list[Step], run: Callable[..., Any], connect: Connect
) -> None:
    with ScriptedAgent(answers={GET: [*before, said("RUNNING")]}) as agent:
        connect(agent)
        assert run() == RESULT
        agent.wait_until(lambda: agent.open_connections == 0)


@pytest.mark.parametrize("status", ["RUNNING", "DEPLOY_FAILED", "UNHEALTHY"])
def test_an_application_is_waited_for_until_it_is_gone(status: str, run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [said(status), said("DELETING"), Refuse(404)]}) as agent:
        connect(agent)
        assert run(target="gone", grace_period=0) is None
        assert len(agent.of(GET)) == 3


def test_one_that_is_gone_already_is_done(run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(applications=[Application("another")]) as agent:
        connect(agent)
        assert run(target="gone") is None
        assert len(agent.of(GET)) == 1


def test_each_status_is_told_once_by_each_process(run: Callable[..., Any], connect: Connect) -> None:
    answers: list[Step] = [said("DEPLOYING"), said("DEPLOYING"), said("DEPLOYING"), said("RUNNING")]
    with ScriptedAgent(answers={GET: answers}) as agent, task_log() as log:
        connect(agent)
        run()
    assert log.messages.count("The Serve application 'app' is DEPLOYING.") <= 2
    assert log.messages[0] == "The Serve application 'app' is DEPLOYING."


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
@pytest.mark.parametrize("grace_period", [0, 0.4])
def test_one_that_fails_on_is_an_error_without_a_retry_that_says_why(
    grace_period: float, status: str, run: Callable[..., Any], connect: Connect
) -> None:
    failing = said(
        status,
        message=f"ValueError: no weights\n::group::x\n{TOKEN}\n",
        deployments={"Model": {"status": "UNHEALTHY"}, "Router": {"status": "HEALTHY"}},
    )
    with ScriptedAgent(answers={GET: [failing]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentServeApplicationFailedError) as caught:
            run(grace_period=grace_period)
        assert len(agent.requests) >= (2 if grace_period else 1)
    assert isinstance(caught.value, AirflowFailException)
    words = str(caught.value)
    assert f"'app' has been {status} for {grace_period:g} seconds" in words
    assert "Failing deployments: Model UNHEALTHY." in words
    assert "Ray's message: ValueError: no weights" in words
    assert "::group::" not in words
    assert TOKEN not in words


def test_one_that_fails_without_a_word_is_an_error_all_the_same(run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [said("DEPLOY_FAILED", message=None, deployments=None)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentServeApplicationFailedError, match="has been DEPLOY_FAILED") as caught:
            run(grace_period=0)
    assert "Ray's message" not in str(caught.value)
    assert "Failing deployments" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("running", Refuse(404)),
        ("running", said("DEPLOYING")),
        ("running", said("UNHEALTHY")),
        ("running", Refuse(503, "maintenance")),
        ("gone", said("RUNNING")),
    ],
    ids=["not there", "deploying", "unhealthy", "away", "still there"],
)
def test_the_timeout_ends_it_whatever_the_agent_says(
    target: str, answer: Step, way: str, run: Callable[..., Any], connect: Connect
) -> None:
    error = AirflowSensorTimeout if way == "worker" else RayAgentServeApplicationTimeoutError
    with ScriptedAgent(answers={GET: [answer]}) as agent:
        connect(agent)
        with pytest.raises(error, match=r"timeout of 0\.4") as caught:
            run(target=target, timeout=0.4)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "answer", "words"),
    [
        (
            "running",
            Refuse(404),
            "'app' did not become RUNNING within the timeout of 0.3 seconds. Its status is: not there.",
        ),
        (
            "gone",
            said("DELETING"),
            "'app' did not disappear within the timeout of 0.3 seconds. Its status is: DELETING.",
        ),
        ("running", Refuse(503, "maintenance"), "Last error: .*maintenance"),
    ],
    ids=["not there", "still there", "away"],
)
def test_a_deferred_timeout_says_how_it_was_last(target: str, answer: Step, words: str, connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [answer]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentServeApplicationTimeoutError, match=words):
            execute(lambda: make_sensor(deferrable=True, target=target, timeout=0.3), make_context())


def test_an_agent_that_is_out_of_reach_is_an_error_after_its_timeout(run: Callable[..., Any], connect: Connect) -> None:
    connect(NO_AGENT)
    with pytest.raises(RayAgentConnectionError) as caught:
        run(agent_unreachable_timeout=0.3)
    assert TOKEN not in str(caught.value)


def test_an_agent_that_only_fails_is_an_error_after_its_timeout(run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [Refuse(503, "maintenance")]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentServerError, match="maintenance"):
            run(agent_unreachable_timeout=0.3)


def test_a_refused_token_is_an_error_at_once(run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(applications=[Application()], token="another") as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError) as caught:
            run()
        assert len(agent.of(GET)) == 1
    assert TOKEN not in str(caught.value)


FAILS = {"answers": {GET: [said("DEPLOY_FAILED", message="no weights")]}}
LATE: dict[str, Any] = {"answers": {GET: [said("DEPLOYING")]}}
REFUSES: dict[str, Any] = {"answers": {GET: [Refuse(403, "not yours")]}}


@pytest.mark.parametrize(
    ("script", "option", "word"),
    [
        (FAILS, "soft_fail", "no weights"),
        (FAILS, "never_fail", "no weights"),
        (LATE, "soft_fail", "timeout of 0.3"),
        (LATE, "never_fail", "timeout of 0.3"),
        (REFUSES, "never_fail", "not yours"),
    ],
)
def test_what_ends_it_is_skipped_where_that_is_wanted(
    script: dict[str, Any], option: str, word: str, run: Callable[..., Any], connect: Connect
) -> None:
    with ScriptedAgent(**script) as agent, task_log() as log:
        connect(agent)
        with pytest.raises(AirflowSkipException) as caught:
            run(grace_period=0, timeout=0.3, **{option: True})
    told = [*log.messages, str(caught.value)]
    assert any(word in message for message in told)


def test_a_refusal_is_no_soft_failure(run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(**REFUSES) as agent:
        connect(agent)
        with pytest.raises(RayAgentPermissionError, match="not yours"):
            run(soft_fail=True)


def test_the_result_is_json_without_a_secret(run: Callable[..., Any], connect: Connect) -> None:
    config = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}}
    answer = said("RUNNING", message=f"warm {TOKEN}", deployed_app_config=config)
    with ScriptedAgent(answers={GET: [Refuse(404), answer]}) as agent, task_log() as log:
        connect(agent)
        result = run()
    assert result.keys() == RESULT.keys()
    for text in (json.dumps(result, allow_nan=False), *log.messages):
        assert "s3cret" not in text


@pytest.mark.parametrize("name", ["my app", "漢é", "a?b", "100%"])
def test_a_name_of_any_characters_works(name: str, run: Callable[..., Any], connect: Connect) -> None:
    with ScriptedAgent(applications=[Application(name), Application("a")]) as agent:
        connect(agent)
        assert run(name=name)["name"] == name


def test_an_unknown_target_is_refused_with_the_targets() -> None:
    with pytest.raises(RayAgentInputError) as caught:
        make_sensor(target="healthy")
    assert caught.value.detail == "Unknown target 'healthy': use one of running, gone."


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\nb"])
def test_a_hostile_name_is_refused_before_anything_is_sent(
    name: str, run: Callable[..., Any], connect: Connect
) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(RayAgentInputError, match="application name"):
            run(name=name)
        assert agent.connections == 0


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"target": "healthy"}, "target"),
        ({"target": None}, "target"),
        ({"grace_period": -1}, "grace_period"),
        ({"grace_period": False}, "grace_period"),
        ({"grace_period": float("nan")}, "grace_period"),
        ({"grace_period": "30"}, "grace_period"),
        ({"agent_unreachable_timeout": 0}, "agent_unreachable_timeout"),
        ({"agent_unreachable_timeout": None}, "agent_unreachable_timeout"),
        ({"poke_interval": -1}, "poke_interval"),
        ({"timeout": "x"}, "timeout"),
    ],
)
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_sensor(**overrides)


def test_the_name_and_the_connection_are_templates(way: str, connect: Connect) -> None:
    def make() -> RayAgentServeApplicationSensor:
        sensor = make_sensor(
            name="canary-{{ night }}", rayagent_conn_id="team_{{ team }}", deferrable=way == "deferred"
        )
        sensor.render_template_fields({"night": "7", "team": "a"})  # type: ignore[typeddict-unknown-key]
        return sensor

    route = "GET serve_applications/canary-7/"
    with ScriptedAgent(answers={route: [Refuse(404), said("RUNNING", name="canary-7")]}) as agent:
        connect(agent, "team_a")
        assert execute(make, make_context())["name"] == "canary-7"
