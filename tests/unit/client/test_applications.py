"""Waiting for a Serve application: what each status means, and when to give up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.client.applications import (
    FAILING,
    MAX_DEPLOYMENTS,
    MAX_NAME,
    ApplicationOutcome,
    ApplicationWait,
    Target,
    WaitResult,
    summarize,
)
from airflow_provider_rayagent.client.errors import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentPermissionError,
    RayAgentRedirectError,
    RayAgentResponseError,
    RayAgentServerError,
)
from airflow_provider_rayagent.client.jobs import MAX_TEXT

GRACE, UNREACHABLE = 30.0, 300.0
STATUSES = ["NOT_STARTED", "DEPLOYING", "RUNNING", "DEPLOY_FAILED", "UNHEALTHY", "DELETING", "A_NEW_ONE"]
AWAY = RayAgentServerError("maintenance", 503)
GONE = RayAgentNotFoundError("Not Found", 404)


def make_wait(target: Target = "running", **overrides: Any) -> ApplicationWait:
    return ApplicationWait(**{"target": target, "grace_period": GRACE, "unreachable_timeout": UNREACHABLE, **overrides})


def app(status: Any = "RUNNING", **more: Any) -> dict[str, Any]:
    return {"name": "app", "status": status, "message": "", "route_prefix": "/", "deployments": {}, **more}


def carried(outcome: ApplicationOutcome) -> ApplicationOutcome:
    """Return the outcome that comes out of the event, which goes through JSON."""
    return ApplicationOutcome.from_event(json.loads(json.dumps(outcome.to_event(), allow_nan=False)))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("target", ["running", "gone"])
def test_only_running_is_what_is_waited_for_and_nothing_that_is_there_is_gone(target: Target, status: str) -> None:
    wait = make_wait(target)
    outcome = wait.seen(app(status), 5)
    reached = target == "running" and status == "RUNNING"
    assert outcome.result == (WaitResult.REACHED if reached else None)
    assert (outcome.status, outcome.error, wait.last) == (status, None, outcome)
    assert wait.needs_fast_poll is (target == "running" and status in FAILING)


@pytest.mark.parametrize(("target", "wanted"), [("running", None), ("gone", WaitResult.REACHED)])
def test_one_that_is_not_there_is_gone_or_still_to_come(target: Target, wanted: WaitResult | None) -> None:
    wait = make_wait(target)
    outcome = wait.seen(None, 0)
    assert outcome == ApplicationOutcome(wanted)
    assert outcome.status == "not there"
    assert not wait.needs_fast_poll


def test_a_404_for_all_applications_does_not_tell_that_one_is_gone() -> None:
    assert make_wait("gone").failed(GONE, 0).result is WaitResult.AGENT_UNREACHABLE
    wait = make_wait("gone")
    wait.seen(app(), 0)
    assert wait.failed(GONE, 1).result is None


def test_one_that_never_comes_is_waited_for_without_an_end_of_its_own() -> None:
    wait = make_wait()
    assert [wait.seen(None, now).result for now in (0, GRACE, UNREACHABLE, 1e6)] == [None] * 4


@pytest.mark.parametrize("status", FAILING)
@pytest.mark.parametrize(("seconds", "wanted"), [(0, None), (GRACE - 0.01, None), (GRACE, WaitResult.FAILED)])
def test_a_failing_one_is_given_up_when_the_grace_period_is_over(
    seconds: float, wanted: WaitResult | None, status: str
) -> None:
    wait = make_wait()
    assert wait.seen(app(status), 100).result is None
    assert wait.seen(app(status), 100 + seconds).result is wanted


def test_without_a_grace_period_the_first_failing_look_decides() -> None:
    assert make_wait(grace_period=0.0).seen(app("DEPLOY_FAILED"), 100).result is WaitResult.FAILED


def test_one_failing_status_after_the_other_is_one_failure() -> None:
    wait = make_wait()
    wait.seen(app("UNHEALTHY"), 0)
    assert wait.seen(app("DEPLOY_FAILED"), GRACE).result is WaitResult.FAILED


@pytest.mark.parametrize("between", ["DEPLOYING", None])
def test_a_recovery_begins_the_grace_period_anew(between: str | None) -> None:
    wait = make_wait()
    wait.seen(app("UNHEALTHY"), 0)
    wait.seen(app(between) if between else None, GRACE - 1)
    assert not wait.needs_fast_poll
    assert wait.seen(app("UNHEALTHY"), GRACE).result is None
    assert wait.seen(app("RUNNING"), GRACE + 1).result is WaitResult.REACHED


def test_the_grace_period_goes_on_while_the_agent_is_away() -> None:
    wait = make_wait()
    wait.seen(app("DEPLOY_FAILED"), 0)
    assert wait.failed(AWAY, GRACE).result is None
    assert wait.seen(app("DEPLOY_FAILED"), GRACE + 1).result is WaitResult.FAILED


@pytest.mark.parametrize("status", FAILING)
def test_a_failing_one_that_is_to_be_gone_is_waited_for(status: str) -> None:
    wait = make_wait("gone")
    assert [wait.seen(app(status), now).result for now in (0, GRACE * 10)] == [None, None]


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("error", [AWAY, RayAgentConnectionError("refused"), RayAgentResponseError("a page")])
def test_an_agent_that_is_away_is_given_up_after_its_timeout(error: RayAgentError, answered: bool) -> None:
    wait = make_wait()
    last = wait.seen(app("DEPLOYING"), 0).application if answered else None
    assert wait.failed(error, 10) == ApplicationOutcome(None, last, error)
    assert wait.needs_fast_poll
    assert wait.failed(error, 10 + UNREACHABLE - 0.01).result is None
    assert wait.failed(error, 10 + UNREACHABLE) == ApplicationOutcome(WaitResult.AGENT_UNREACHABLE, last, error)


@pytest.mark.parametrize("answer", [app("DEPLOYING"), None])
def test_an_answer_begins_the_agents_timeout_anew(answer: dict[str, Any] | None) -> None:
    wait = make_wait()
    wait.failed(AWAY, 0)
    wait.seen(answer, UNREACHABLE - 1)
    assert not wait.needs_fast_poll
    assert wait.failed(AWAY, UNREACHABLE).result is None


@pytest.mark.parametrize(
    "kind", [RayAgentAuthenticationError, RayAgentConfigError, RayAgentPermissionError, RayAgentRedirectError]
)
def test_a_refusal_ends_it_at_once_unless_the_agent_has_answered_before(kind: type[RayAgentError]) -> None:
    refusal = kind("no", 401)
    assert make_wait().failed(refusal, 0).result is WaitResult.AGENT_UNREACHABLE
    wait = make_wait()
    wait.seen(None, 0)
    assert wait.failed(refusal, 1).result is None
    assert wait.failed(refusal, 1 + UNREACHABLE).result is WaitResult.AGENT_UNREACHABLE


@pytest.mark.parametrize("wanted", [*WaitResult, None])
@pytest.mark.parametrize("application", [None, summarize(app("UNHEALTHY", message="é"))])
@pytest.mark.parametrize("error", [None, RayAgentAuthenticationError("no: é", 401)])
def test_an_outcome_comes_through_its_event(
    wanted: WaitResult | None, application: dict[str, Any] | None, error: RayAgentError | None
) -> None:
    got = carried(ApplicationOutcome(wanted, application, error))
    assert (got.result, got.application, type(got.error)) == (wanted, application, type(error))
    assert str(got.error) == str(error)


@pytest.mark.parametrize(
    "event",
    [
        None,
        "x",
        [],
        {},
        {"arrival": "reached"},
        {"arrival": "boom", "application": None, "error": None},
        {"arrival": ["reached"], "application": None, "error": None},
        {"arrival": "reached", "application": "app", "error": None},
        {"arrival": "reached", "application": [1], "error": None},
        {"arrival": None, "application": None, "error": 7},
        {"arrival": None, "application": None, "error": ["RayAgentError"]},
    ],
    ids=ascii,
)
def test_an_event_that_is_not_ours_is_a_named_error(event: Any) -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of"):
        ApplicationOutcome.from_event(event)


def test_an_event_without_a_status_has_one_all_the_same() -> None:
    event = {"arrival": "failed", "application": {"name": "app"}, "error": None}
    assert ApplicationOutcome.from_event(event).status == "None"


def test_a_summary_has_what_is_of_use_and_no_more() -> None:
    details = app(
        deployments={
            "Model": {"status": "HEALTHY", "replicas": [1, 2]},
            "Router": {"status": "UPDATING"},
            "Odd": "not details",
            "Bare": {},
        },
        docs_path="/docs",
        last_deployed_time_s=1_700_000_000.5,
        deployed_app_config={"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}},
    )
    assert summarize(details) == {
        "name": "app",
        "status": "RUNNING",
        "message": "",
        "route_prefix": "/",
        "docs_path": "/docs",
        "last_deployed_time_s": 1_700_000_000.5,
        "deployments": {"Model": "HEALTHY", "Router": "UPDATING", "Bare": None},
    }


@pytest.mark.parametrize("deployments", [None, [], "x", 7])
def test_a_summary_of_an_application_with_nothing_known_is_empty(deployments: Any) -> None:
    assert summarize({"deployments": deployments}) == {**dict.fromkeys(summarize({})), "deployments": {}}


def test_no_secret_gets_into_a_summary() -> None:
    details = app("s3cret", message=f"{'x' * (MAX_TEXT - 3)}s3cret", deployments={"s3cret": {"status": "s3cret"}})
    summary = make_wait(redact=lambda text: text.replace("s3cret", "***")).seen(details, 0).application
    assert summary is not None
    assert summary["message"].startswith(f"{'x' * (MAX_TEXT - 3)}***")
    assert "s3" not in json.dumps(summary)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), {"a": {1, 2}}, [b"x"], "\x00\ud800", object], ids=ascii)
def test_a_summary_is_json_whatever_the_agent_says(odd: Any) -> None:
    details = app(odd, message=odd, last_deployed_time_s=odd, deployments={"a": {"status": odd}, "\x00": {}})
    text = json.dumps(summarize(details), allow_nan=False)
    assert "\\u0000" not in text
    assert "\\ud800" not in text


def test_a_summary_stays_small() -> None:
    many = {f"{'n' * 1_000}{number}": {"status": "HEALTHY"} for number in range(10)}
    summary = summarize(app(message="é" * 1_000_000, deployments=many))
    assert summary["message"] == f"{'é' * MAX_TEXT}… [{1_000_000 - MAX_TEXT} characters truncated]"
    assert max(map(len, summary["deployments"])) < MAX_NAME + 50
    more = {str(number): {"status": "HEALTHY"} for number in range(MAX_DEPLOYMENTS * 5)}
    assert list(summarize(app(deployments=more))["deployments"]) == list(more)[:MAX_DEPLOYMENTS]
