"""The retry policy: what it does about each failure, and what Airflow makes of it."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.exceptions import (
    RayAgentConfigError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobMissingError,
    RayAgentJobNotStartedError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentRunFailedError,
    RayAgentServerError,
    RayAgentTimeoutError,
    RayAgentTLSError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.failures.failure_kinds import FailureKind, headline
from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

retry_policy = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow 3.3")

DELAYS: dict[str, float | None] = {
    kind.value: 10.0 + number for number, kind in enumerate(FailureKind) if kind is not FailureKind.PROGRAM
}
ERRORS: list[tuple[RayAgentError, str | None]] = [
    (RayAgentJobNotStartedError("late"), "start_timeout"),
    (RayAgentJobMissingError("gone", 404), "job_lost"),
    (RayAgentResourcesError("no GPU", 503), "resources"),
    (RayAgentResourcesError("no node"), "resources"),
    (RayAgentUnreachableError("refused"), "unreachable"),
    (RayAgentTimeoutError("slow"), "unreachable"),
    (RayAgentServerError("bad gateway", 502), "unreachable"),
    (RayAgentServerError("failed", 500), "unreachable"),
    (RayAgentHTTPError("often", 429), "unreachable"),
    (RayAgentResponseError("an HTML page"), "unreachable"),
    (RayAgentTLSError("unknown CA"), None),
    (RayAgentHTTPError("wrong token", 401), None),
    (RayAgentConfigError("no host"), None),
    (RayAgentInputError("wrong id"), None),
    (RayAgentError("killed"), None),
]


def failed(kind: FailureKind | None, text: str | None = None) -> RayAgentRunFailedError:
    error = RayAgentRunFailedError(text or f"{headline(kind) if kind else ''} Job j1 ended as FAILED.\nDetails: none.")
    error.failure_kind = kind
    return error


def decide(error: BaseException, **delays: Any) -> Any:
    return RayAgentRetryPolicy(**delays).evaluate(error, try_number=1, max_tries=3)


@pytest.mark.parametrize("kind", DELAYS)
def test_a_failure_of_the_platform_is_retried_after_its_own_delay(kind: str) -> None:
    error = failed(FailureKind(kind))
    decision = decide(error, **DELAYS)
    assert decision.action is retry_policy.RetryAction.RETRY
    assert decision.retry_delay.total_seconds() == DELAYS[kind]
    assert decision.reason == f"{error.code}: {headline(FailureKind(kind))} Job j1 ended as FAILED."


def test_a_failure_of_the_program_fails_the_task_at_once() -> None:
    error = failed(FailureKind.PROGRAM, "The program failed: exit code 3. Job j1 ended as FAILED.\nDetails: none.")
    decision = decide(error)
    assert decision.action is retry_policy.RetryAction.FAIL
    assert decision.reason == f"{error.code}: The program failed: exit code 3. Job j1 ended as FAILED."


def test_a_delay_of_none_fails_the_task_at_once() -> None:
    decision = decide(failed(FailureKind.WORKER_LOST), worker_lost=None)
    assert decision.action is retry_policy.RetryAction.FAIL
    assert decision.reason.startswith("RA-107: Platform failure: a worker process was lost")


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda value: type(value).__name__)
def test_other_errors_have_a_kind_or_the_rules_of_the_task(error: RayAgentError, kind: str | None) -> None:
    decision = decide(error, **DELAYS)
    if kind is None:
        assert decision == retry_policy.RetryDecision.default()
    else:
        assert decision.retry_delay == timedelta(seconds=DELAYS[kind] or 0)
        assert decision.reason == f"{error.code}: {headline(FailureKind(kind))} {error.detail}"


@pytest.mark.parametrize("error", [ValueError("of a template"), failed(None)])
def test_an_unknown_cause_leaves_the_rules_of_the_task(error: Exception) -> None:
    assert decide(error) == retry_policy.RetryDecision.default()


def test_the_kind_of_a_failure_survives_pickling() -> None:
    for name in ("RayAgentRunFailedError", "RayAgentJobFailedError"):
        error = getattr(exceptions, name)("text", None)
        error.failure_kind = FailureKind.NODE_DIED
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.detail, copy.failure_kind) == (type(error), "text", FailureKind.NODE_DIED)
    assert pickle.loads(pickle.dumps(RayAgentJobMissingError("gone"))).failure_kind is FailureKind.JOB_LOST
    assert pickle.loads(pickle.dumps(RayAgentError("other"))).failure_kind is None


def test_the_delays_survive_serialization() -> None:
    policy = RayAgentRetryPolicy(node_died=timedelta(minutes=2), job_lost=None)
    copy = RayAgentRetryPolicy.deserialize(policy.serialize())
    assert copy.serialize() == policy.serialize()
    assert (policy.serialize()["node_died"], policy.serialize()["job_lost"]) == (120.0, None)


@pytest.mark.parametrize("delay", [0, -1, "60", True, float("nan")])
def test_an_invalid_delay_is_rejected(delay: Any) -> None:
    with pytest.raises(RayAgentInputError, match="out_of_memory must be a number of seconds"):
        RayAgentRetryPolicy(out_of_memory=delay)
