"""Wait for a Serve application: the effect of each status, and when to give up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentServerError,
    for_status,
)
from airflow_provider_rayagent.services.jobs import MAX_TEXT
from airflow_provider_rayagent.waits.application_wait import (
    FAILING,
    MAX_DEPLOYMENTS,
    MAX_NAME,
    ApplicationOutcome,
    ApplicationWait,
    Target,
    summarize,
)
from airflow_provider_rayagent.waits.waiting import WaitResult

GRACE, UNREACHABLE = 30.0, 300.0
STATUSES = ["NOT_STARTED", "DEPLOYING", "RUNNING", "DEPLOY_FAILED", "UNHEALTHY", "DELETING", "A_NEW_ONE"]
AWAY = RayAgentServerError("maintenance", 503)
GONE = RayAgentNotFoundError("Not Found", 404)


def make_wait(target: Target = "running", **overrides: Any) -> ApplicationWait:
    arguments = {"target": target, "grace_period": GRACE, "agent_unreachable_timeout": UNREACHABLE, **overrides}
    return ApplicationWait("app", **arguments)


def app(status: Any = "RUNNING", **more: Any) -> dict[str, Any]:
    return {"name": "app", "status": status, "message": "", "route_prefix": "/", "deployments": {}, **more}


def carried(outcome: ApplicationOutcome) -> ApplicationOutcome:
    """Return the outcome after a round trip through its event and JSON."""
    return ApplicationOutcome.from_event(json.loads(json.dumps(outcome.to_event(), allow_nan=False)))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("target", ["running", "gone"])
def test_only_running_satisfies_running_and_no_status_satisfies_gone(target: Target, status: str) -> None:
    wait = make_wait(target)
    outcome = wait.received(app(status), 5)
    reached = target == "running" and status == "RUNNING"
    assert outcome.result == (WaitResult.REACHED if reached else None)
    assert (outcome.status, outcome.error, wait.last) == (status, None, outcome)
    assert wait.needs_fast_poll is (target == "running" and status in FAILING)


@pytest.mark.parametrize(("target", "wanted"), [("running", None), ("gone", WaitResult.REACHED)])
def test_a_missing_application_is_gone_or_not_yet_running(target: Target, wanted: WaitResult | None) -> None:
    wait = make_wait(target)
    outcome = wait.received(None, 0)
    assert outcome == ApplicationOutcome(wanted)
    assert outcome.status == "not there"
    assert not wait.needs_fast_poll


def test_a_404_for_the_list_does_not_mean_that_an_application_is_gone() -> None:
    assert make_wait("gone").failed(GONE, 0).result is WaitResult.AGENT_UNREACHABLE
    wait = make_wait("gone")
    wait.received(app(), 0)
    assert wait.failed(GONE, 1).result is None


@pytest.mark.parametrize("status", FAILING)
@pytest.mark.parametrize(("seconds", "wanted"), [(0, None), (GRACE - 0.01, None), (GRACE, WaitResult.FAILED)])
def test_a_failing_application_is_given_up_after_the_grace_period(
    seconds: float, wanted: WaitResult | None, status: str
) -> None:
    wait = make_wait()
    assert wait.received(app(status), 100).result is None
    assert wait.received(app(status), 100 + seconds).result is wanted


@pytest.mark.parametrize(
    ("target", "options", "history", "results"),
    [
        # A missing application is waited for without a timeout.
        ("running", {}, {0: None, GRACE: None, UNREACHABLE: None, 1e6: None}, [None] * 4),
        ("running", {"grace_period": 0.0}, {100: "DEPLOY_FAILED"}, [WaitResult.FAILED]),
        # Different failing statuses share one grace period, which goes on while the agent is unreachable.
        ("running", {}, {0: "UNHEALTHY", GRACE: "DEPLOY_FAILED"}, [None, WaitResult.FAILED]),
        ("running", {}, {0: "DEPLOY_FAILED", GRACE: AWAY, GRACE + 1: "DEPLOY_FAILED"}, [None, None, WaitResult.FAILED]),
        *(("gone", {}, {0: status, GRACE * 10: status}, [None, None]) for status in FAILING),
    ],
)
def test_what_becomes_of_a_wait(
    target: Target,
    options: dict[str, Any],
    history: dict[float, str | RayAgentError | None],
    results: list[WaitResult | None],
) -> None:
    wait = make_wait(target, **options)
    found = [
        wait.failed(what, now) if isinstance(what, RayAgentError) else wait.received(app(what) if what else None, now)
        for now, what in history.items()
    ]
    assert [outcome.result for outcome in found] == results


@pytest.mark.parametrize("between", ["DEPLOYING", None])
def test_a_recovery_resets_the_grace_period(between: str | None) -> None:
    wait = make_wait()
    wait.received(app("UNHEALTHY"), 0)
    wait.received(app(between) if between else None, GRACE - 1)
    assert not wait.needs_fast_poll
    assert wait.received(app("UNHEALTHY"), GRACE).result is None
    assert wait.received(app("RUNNING"), GRACE + 1).result is WaitResult.REACHED


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("error", [AWAY, RayAgentConnectionError("refused"), RayAgentResponseError("a page")])
def test_an_unreachable_agent_is_given_up_after_the_timeout(error: RayAgentError, answered: bool) -> None:
    wait = make_wait()
    last = wait.received(app("DEPLOYING"), 0).application if answered else None
    assert wait.failed(error, 10) == ApplicationOutcome(None, last, error)
    assert wait.needs_fast_poll
    assert wait.failed(error, 10 + UNREACHABLE - 0.01).result is None
    assert wait.failed(error, 10 + UNREACHABLE) == ApplicationOutcome(WaitResult.AGENT_UNREACHABLE, last, error)


@pytest.mark.parametrize("answer", [app("DEPLOYING"), None])
def test_a_response_resets_the_unreachable_timeout(answer: dict[str, Any] | None) -> None:
    wait = make_wait()
    wait.failed(AWAY, 0)
    wait.received(answer, UNREACHABLE - 1)
    assert not wait.needs_fast_poll
    assert wait.failed(AWAY, UNREACHABLE).result is None


@pytest.mark.parametrize(
    "refusal", [*(for_status(status, "no") for status in (302, 401, 403)), RayAgentConfigError("no")]
)
def test_a_permanent_error_ends_waiting_only_for_the_first_request(refusal: RayAgentError) -> None:
    assert make_wait().failed(refusal, 0).result is WaitResult.AGENT_UNREACHABLE
    wait = make_wait()
    wait.received(None, 0)
    assert wait.failed(refusal, 1).result is None
    assert wait.failed(refusal, 1 + UNREACHABLE).result is WaitResult.AGENT_UNREACHABLE


@pytest.mark.parametrize("wanted", [*WaitResult, None])
@pytest.mark.parametrize("application", [None, summarize(app("UNHEALTHY", message="é"))])
@pytest.mark.parametrize("error", [None, for_status(401, "no: é")])
def test_an_outcome_round_trips_through_its_event(
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
def test_an_unknown_event_is_rejected(event: Any) -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of"):
        ApplicationOutcome.from_event(event)


def test_a_missing_status_in_an_event_is_none() -> None:
    event = {"arrival": "failed", "application": {"name": "app"}, "error": None}
    assert ApplicationOutcome.from_event(event).status == "None"


def test_a_summary_contains_only_known_fields() -> None:
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
def test_a_summary_of_an_application_without_details_is_empty(deployments: Any) -> None:
    assert summarize({"deployments": deployments}) == {**dict.fromkeys(summarize({})), "deployments": {}}


def test_secrets_are_redacted_in_a_summary() -> None:
    details = app("s3cret", message=f"{'x' * (MAX_TEXT - 3)}s3cret", deployments={"s3cret": {"status": "s3cret"}})
    summary = summarize(details, lambda text: text.replace("s3cret", "***"))
    assert summary is not None
    assert summary["message"].startswith(f"{'x' * (MAX_TEXT - 3)}***")
    assert "s3" not in json.dumps(summary)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), {"a": {1, 2}}, [b"x"], "\x00\ud800", object], ids=ascii)
def test_a_summary_is_json_for_any_response(odd: Any) -> None:
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
