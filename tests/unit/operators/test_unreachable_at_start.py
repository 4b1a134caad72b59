"""A job is started although the service cannot be reached at first."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentServerError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.run import patience
from airflow_provider_rayagent.run.patience import Patience
from airflow_provider_rayagent.transport import request_retry
from tests.scripted import DEFAULT, Down, Play, Refuse, Reset, ray_dialect
from tests.stack.processes import NO_AGENT
from tests.unit.both_ways import both_ways
from tests.unit.operators import plugin_runs
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import SUBMIT, make_operator
from tests.unit.support import make_context

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, TaskLog

WHY = "Nothing listens at http://ray:8265."
UNREACHABLE = RayAgentUnreachableError(WHY)
NO_NODE = ray_dialect.error(500, "No available agent to submit job, please try again later.")
TRYING = re.compile(r"RA-\d{3}: .* Trying again until \d\d:\d\d:\d\d UTC\.")
AGAIN = "The service answers again."

run = both_ways(make_operator)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(request_retry, "FIRST_PAUSE", 0.02)


def go_on(*_: object) -> None:
    """Do as a task that was not killed."""


def calling(log: TaskLog, *outcomes: object, seconds: float = 60.0, raise_if_killed: Any = go_on) -> tuple[Any, int]:
    """Call a function with these outcomes, one after the other; return the result and the number of calls."""
    left = list(outcomes)

    def call() -> object:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    import structlog

    return Patience(structlog.get_logger(), seconds, raise_if_killed).call(call), len(outcomes) - len(left)


def test_what_fails_for_a_while_is_told_once_and_so_is_that_it_works_again(log: TaskLog) -> None:
    assert calling(log, UNREACHABLE, UNREACHABLE, RayAgentConnectionError("It broke."), 7) == (7, 4)
    (trying,) = log.warnings
    assert TRYING.fullmatch(trying)
    assert trying.startswith(f"RA-201: {WHY} Trying again until ")
    assert log.messages[1:] == [AGAIN]


def test_what_works_at_once_is_no_message(log: TaskLog) -> None:
    assert calling(log, 7) == (7, 1)
    assert log.messages == []


@pytest.mark.parametrize("error", [RayAgentInputError("No."), RayAgentHTTPError("No.", 401), RayAgentError("No.")])
def test_what_a_repetition_cannot_help_is_raised_at_once(error: RayAgentError, log: TaskLog) -> None:
    with pytest.raises(type(error)):
        calling(log, error, 7)
    assert log.messages == []


def test_it_ends_with_the_last_error(log: TaskLog) -> None:
    last = RayAgentConnectionError("It broke again.")
    with pytest.raises(RayAgentConnectionError, match=r"It broke again\."):
        calling(log, UNREACHABLE, last, seconds=0.0)


def test_a_killed_task_does_not_go_on(log: TaskLog) -> None:
    def killed() -> None:
        raise RayAgentError("The task was killed.")

    with pytest.raises(RayAgentError, match="killed"):
        calling(log, UNREACHABLE, 7, raise_if_killed=killed)


@pytest.mark.parametrize(
    "failures",
    [[NO_NODE] * 6, [Refuse(503)] * 6, [Play(Reset())] * 6, [Down(0.5)]],
    ids=["no node yet", "503", "reset", "refused"],
)
def test_a_job_is_submitted_once_the_service_takes_it(
    failures: list[Any], run: Run, ray: ScriptedAgent, log: TaskLog
) -> None:
    ray.answers[SUBMIT] = [*failures, starting(ray)]
    assert run()["status"] == "SUCCEEDED"
    assert [message for message in log.messages if TRYING.fullmatch(message)]
    assert AGAIN in log.messages
    assert list(ray.jobs) == [ROOT]


@pytest.mark.parametrize("route", ["GET api/version", f"GET jobs/{ROOT}/"])
def test_what_comes_before_the_submission_is_repeated_too(
    route: str, run: Run, ray: ScriptedAgent, log: TaskLog
) -> None:
    ray.answers[route] = [*[Refuse(503)] * 6, DEFAULT]
    assert run()["status"] == "SUCCEEDED"
    assert AGAIN in log.messages


def test_a_service_that_stays_away_fails_the_task_when_its_time_is_over(run: Run, connect: Connect) -> None:
    connect(NO_AGENT, extra={"service": "ray"})
    began = time.monotonic()
    with pytest.raises(RayAgentUnreachableError):
        run(agent_unreachable_timeout=0.5)
    assert time.monotonic() - began >= 0.5


def test_a_node_that_does_not_come_is_the_error(run: Run, ray: ScriptedAgent) -> None:
    ray.answers[SUBMIT] = [NO_NODE] * 999
    with pytest.raises(RayAgentServerError, match=r"answered 500: No available agent to submit job"):
        run(agent_unreachable_timeout=0.3, job_missing_timeout=0.1)


def test_a_plugin_is_not_requested_twice_if_it_may_have_started(agent: ScriptedAgent) -> None:
    agent.answers[plugin_runs.RUN] = [Play(Reset())]
    with pytest.raises(RayAgentConnectionError):
        plugin_runs.make_operator(job_missing_timeout=0.1).execute(make_context())
    assert len(agent.of(plugin_runs.RUN)) == 1
