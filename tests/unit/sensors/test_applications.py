"""The sensor for a Serve application, in a worker and deferred."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectionError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentServeApplicationFailedError,
    RayAgentServerError,
    RayAgentWaitTimeoutError,
)
from tests.scripted import Application, Down, Html, Play, Refuse, Reset
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import both_ways, execute
from tests.unit.sensors.applications import APP, GET, make_sensor, said
from tests.unit.support import TOKEN, make_context, named

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, Serve, TaskLog

FAILING = ("DEPLOY_FAILED", "UNHEALTHY")
RESULT = {**APP, "status": "RUNNING", "deployments": {"Model": "HEALTHY"}}


run = both_ways(make_sensor)


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
def test_an_application_is_waited_for_until_it_is_running(before: list[Step], run: Run, serve: Serve) -> None:
    agent = serve(answers={GET: [*before, said("RUNNING")]})
    assert run() == RESULT
    agent.wait_until(lambda: agent.open_connections == 0)


@pytest.mark.parametrize(
    "before", [[], *([said(status), said("DELETING")] for status in ("RUNNING", *FAILING))], ids=named
)
def test_an_application_is_waited_for_until_it_is_gone(before: list[Step], run: Run, serve: Serve) -> None:
    agent = serve(answers={GET: [*before, Refuse(404)]})
    assert run(target="gone", grace_period=0) is None
    assert len(agent.of(GET)) == len(before) + 1


DEPLOYED = APP["last_deployed_time_s"]


@pytest.mark.parametrize("earlier", ["RUNNING", "DEPLOY_FAILED", "UNHEALTHY", "DEPLOYING"])
@pytest.mark.parametrize("unknown", [False, True])
def test_an_earlier_deployment_does_not_count(
    earlier: str, unknown: bool, run: Run, serve: Serve, log: TaskLog
) -> None:
    before = said(earlier, last_deployed_time_s=None if unknown else DEPLOYED)
    serve(answers={GET: [before, before, said("RUNNING", last_deployed_time_s=DEPLOYED + 1)]})
    assert run(deployed_after=DEPLOYED, grace_period=0) == {**RESULT, "last_deployed_time_s": DEPLOYED + 1}
    assert f"The Serve application 'app' is {earlier} (an earlier deployment)." in log.messages


@pytest.mark.parametrize(
    "after",
    [
        DEPLOYED - 0.25,
        str(DEPLOYED - 0.25),
        datetime.fromtimestamp(DEPLOYED - 0.25, tz=timezone.utc),
        "2023-11-14T22:13:20.250Z",
        "2023-11-14 23:13:20.250000+01:00",
        0,
        -1,
    ],
)
def test_a_deployment_after_the_time_counts(after: Any, run: Run, serve: Serve) -> None:
    serve(answers={GET: [said("RUNNING")]})
    assert run(deployed_after=after) == RESULT


def test_the_timeout_says_that_the_deployment_is_an_earlier_one(serve: Serve) -> None:
    serve(answers={GET: [said("RUNNING")]})
    with pytest.raises(RayAgentWaitTimeoutError, match=r"Its status is: RUNNING \(an earlier deployment\)\."):
        execute(lambda: make_sensor(deferrable=True, deployed_after=DEPLOYED, timeout=0.4), make_context())


@pytest.mark.parametrize("after", ["", "None", "yesterday", "nan", "inf", "2023-11-14T22:13:20", True, [], 10**400])
def test_a_time_that_is_none_is_refused_before_any_request(after: Any, run: Run, serve: Serve) -> None:
    agent = serve(applications=[Application(status="RUNNING")])
    with pytest.raises(RayAgentInputError, match="deployed_after must be a datetime with a time zone"):
        run(deployed_after=after)
    assert agent.requests == []


def test_a_time_does_not_fit_an_application_that_is_to_be_gone() -> None:
    with pytest.raises(RayAgentInputError, match="deployed_after needs target='running'"):
        make_sensor(target="gone", deployed_after=1.0)


def test_each_status_is_told_once_by_each_process(run: Run, serve: Serve, log: TaskLog) -> None:
    answers: list[Step] = [said("DEPLOYING"), said("DEPLOYING"), said("DEPLOYING"), said("RUNNING")]
    serve(answers={GET: answers})
    run()
    assert log.messages.count("The Serve application 'app' is DEPLOYING.") <= 2
    assert log.messages[0] == "The Serve application 'app' is DEPLOYING."


@pytest.mark.parametrize("status", FAILING)
@pytest.mark.parametrize("grace_period", [0, 0.4])
def test_one_that_fails_on_is_an_error_without_a_retry_that_says_why(
    grace_period: float, status: str, run: Run, serve: Serve
) -> None:
    failing = said(
        status,
        message=f"ValueError: no weights\n::group::x\n{TOKEN}\n",
        deployments={"Model": {"status": "UNHEALTHY"}, "Router": {"status": "HEALTHY"}},
    )
    agent = serve(answers={GET: [failing]})
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


def test_one_that_fails_without_a_word_is_an_error_all_the_same(run: Run, serve: Serve) -> None:
    serve(answers={GET: [said("DEPLOY_FAILED", message=None, deployments=None)]})
    with pytest.raises(RayAgentServeApplicationFailedError, match="has been DEPLOY_FAILED") as caught:
        run(grace_period=0)
    assert "Ray's message" not in str(caught.value)
    assert "Failing deployments" not in str(caught.value)


@pytest.mark.parametrize(("grace_period", "defers"), [(0, False), (30, True)])
def test_what_the_first_look_decides_needs_no_triggerer(grace_period: float, defers: bool, serve: Serve) -> None:
    serve(applications=[Application(status="DEPLOY_FAILED")])
    with pytest.raises(TaskDeferred if defers else RayAgentServeApplicationFailedError):
        make_sensor(deferrable=True, grace_period=grace_period).execute(make_context())


@pytest.mark.parametrize("options", [{"mode": "reschedule"}, {"deferrable": True, "poke_interval": PATIENCE}], ids=str)
def test_one_that_fails_is_looked_at_soon_again_until_that_is_decided(options: dict[str, Any], serve: Serve) -> None:
    agent = serve(answers={GET: [said("UNHEALTHY"), said("UNHEALTHY"), said("RUNNING")]})
    begun = time.monotonic()
    assert execute(lambda: make_sensor(**options), make_context())["status"] == "RUNNING"
    agent.answers[GET] = [said("DEPLOY_FAILED", message="no weights")]
    with pytest.raises(RayAgentServeApplicationFailedError, match="no weights"):
        execute(lambda: make_sensor(grace_period=0.2, **options), make_context())
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize(
    ("target", "answer", "words"),
    [
        ("running", Refuse(404), r"did not become RUNNING .* Its status is: not there\."),
        ("running", said("DEPLOYING"), r"did not become RUNNING .* Its status is: DEPLOYING\."),
        ("running", said("UNHEALTHY"), r"did not become RUNNING .* Its status is: UNHEALTHY\."),
        ("running", Refuse(503, "maintenance"), "did not become RUNNING .* Last error: .*maintenance"),
        ("gone", said("DELETING"), r"did not disappear .* Its status is: DELETING\."),
    ],
)
def test_the_timeout_ends_it_whatever_the_agent_says(
    target: str, answer: Step, words: str, way: str, run: Run, serve: Serve
) -> None:
    serve(answers={GET: [answer]})
    with pytest.raises(AirflowSensorTimeout, match=r"timeout of 0\.4") as caught:
        run(target=target, timeout=0.4)
    assert TOKEN not in str(caught.value)
    if way == "deferred":
        assert isinstance(caught.value, RayAgentWaitTimeoutError)
        assert re.search(words, str(caught.value))


def test_an_agent_that_stays_away_is_an_error_after_its_timeout(run: Run, serve: Serve, connect: Connect) -> None:
    serve(answers={GET: [Refuse(503, "maintenance")]})
    with pytest.raises(RayAgentServerError, match="maintenance"):
        run(agent_unreachable_timeout=0.3)
    connect(NO_AGENT)
    with pytest.raises(RayAgentConnectionError) as caught:
        run(agent_unreachable_timeout=0.3)
    assert TOKEN not in str(caught.value)


def test_a_refused_token_is_an_error_at_once(run: Run, serve: Serve) -> None:
    agent = serve(applications=[Application()], token="another")
    with pytest.raises(RayAgentHTTPError, match="answered 401") as caught:
        run()
    assert len(agent.of(GET)) == 1
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "option", "word", "error"),
    [
        (said("DEPLOY_FAILED", message="no weights"), "soft_fail", "no weights", AirflowSkipException),
        (said("DEPLOY_FAILED", message="no weights"), "never_fail", "no weights", AirflowSkipException),
        (said("DEPLOYING"), "soft_fail", "timeout of 0.3", AirflowSkipException),
        (said("DEPLOYING"), "never_fail", "timeout of 0.3", AirflowSkipException),
        (Refuse(403, "not yours"), "never_fail", "not yours", AirflowSkipException),
        (Refuse(403, "not yours"), "soft_fail", "not yours", RayAgentHTTPError),
    ],
)
def test_what_ends_it_is_skipped_where_that_is_wanted_and_a_refusal_is_no_soft_failure(
    answer: Step, option: str, word: str, error: type[Exception], run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(answers={GET: [answer]})
    with pytest.raises(error) as caught:
        run(grace_period=0, timeout=0.3, **{option: True})
    assert any(word in message for message in [*log.messages, str(caught.value)])


def test_the_result_is_json_without_a_secret(run: Run, serve: Serve, log: TaskLog) -> None:
    config = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}}
    answer = said("RUNNING", message=f"warm {TOKEN}", deployed_app_config=config)
    serve(answers={GET: [Refuse(404), answer]})
    result = run()
    assert result.keys() == RESULT.keys()
    for text in (json.dumps(result, allow_nan=False), *log.messages):
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"target": "healthy"}, "Unknown target 'healthy': use one of running, gone."),
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
