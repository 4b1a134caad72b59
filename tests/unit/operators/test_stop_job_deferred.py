"""The operator that stops a job, deferred: the same results as in a worker."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentJobMissingError,
    RayAgentResponseError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.operators import rayagent
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from tests.scripted import DEFAULT, Answer, Down, Html, Job, Play, Refuse, Reset, ScriptedAgent, SetStatus, Sleep, Step
from tests.unit.both_ways import execute
from tests.unit.operators.test_stop_job import GET, STOP, make_operator, run
from tests.unit.support import make_context, named, task_log

if TYPE_CHECKING:
    from tests.unit.support import Connect

DONE = {"job_id": "j1", "status": "STOPPED", "stop_requested": True}


def run_deferred(**overrides: Any) -> Any:
    return execute(lambda: make_operator(deferrable=True, **overrides), make_context())


@pytest.mark.parametrize("status", ["RUNNING", "PENDING"])
def test_a_job_is_stopped_and_waited_for_without_a_worker(status: str, connect: Connect) -> None:
    job = Job("a\n", status, stop_delay=0.3, details={"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}})
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        result = run_deferred()
        assert result == DONE
        assert job.stop_calls == 1
        agent.wait_until(lambda: agent.open_connections == 0)
    assert log.lines_of("a\n") == []
    assert log.messages[-1] == "Job j1 is STOPPED."
    assert "s3cret" not in json.dumps([result, log.messages])


def test_a_job_that_ends_by_itself_meanwhile_has_its_own_status(connect: Connect) -> None:
    job = Job(status="RUNNING", timeline=[Sleep(0.3), SetStatus("SUCCEEDED")])
    with ScriptedAgent(job, answers={STOP: [Answer(200, {"stopped": True})]}) as agent:
        connect(agent)
        assert run_deferred() == {**DONE, "status": "SUCCEEDED"}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
@pytest.mark.parametrize("choice", ["succeed", "skip"])
def test_a_job_that_has_ended_already_needs_no_deferral(status: str, choice: Any, connect: Connect) -> None:
    with ScriptedAgent(Job(status=status)) as agent:
        connect(agent)
        if choice == "skip":
            with pytest.raises(AirflowSkipException):
                run(deferrable=True, if_finished=choice)
        else:
            assert run(deferrable=True) == {"job_id": "j1", "status": status, "stop_requested": False}


def test_a_job_that_ends_before_the_stop_needs_no_deferral(connect: Connect) -> None:
    step = Play(SetStatus("SUCCEEDED"), Answer(200, {"stopped": False}))
    with ScriptedAgent(Job(status="RUNNING"), answers={STOP: [step]}) as agent:
        connect(agent)
        assert run(deferrable=True) == {"job_id": "j1", "status": "SUCCEEDED", "stop_requested": False}


def test_a_job_that_the_agent_does_not_know_needs_no_deferral(connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(RayAgentJobMissingError):
            run(deferrable=True)
        assert run(deferrable=True, if_missing="succeed")["status"] is None


def test_without_waiting_there_is_no_deferral(connect: Connect) -> None:
    with ScriptedAgent(Job(status="PENDING", stop_delay=60)) as agent:
        connect(agent)
        assert run(deferrable=True, wait_for_termination=False) == {**DONE, "status": "PENDING"}


def test_a_job_that_vanishes_while_it_is_waited_for_is_done(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rayagent, "MISSING_SECONDS", 0.2)
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, Refuse(404)]}) as agent:
        connect(agent)
        with task_log() as log:
            assert run_deferred() == {**DONE, "status": None}
    assert "RA-110: Job j1 no longer exists." in log.warnings


@pytest.mark.parametrize(
    "away", [[Down(0.3)], [Refuse(503)] * 2, [Html(502)], [Html(200)], [Play(Reset())] * 2], ids=named
)
def test_an_agent_that_is_away_for_a_moment_is_asked_again(away: list[Step], connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=0.4), answers={GET: [DEFAULT, *away, DEFAULT]}) as agent:
        connect(agent)
        assert run_deferred() == DONE
        assert agent.jobs["j1"].stop_calls == 1


def test_a_token_that_is_refused_while_waiting_is_an_error(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, Refuse(401)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            run_deferred(timeout=60)


def test_a_job_that_does_not_stop_in_time_is_a_named_error_with_its_status(connect: Connect) -> None:
    with ScriptedAgent(Job(status="PENDING", stop_delay=60)) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match=r"still PENDING after 0\.3 seconds") as caught:
            run_deferred(timeout=0.3)
    assert caught.value.status_code == 408


def test_a_time_out_tells_of_the_agent_that_was_away(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(503, "maintenance")]}
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60), answers=answers) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match="maintenance"):
            run_deferred(timeout=0.3)


def test_an_event_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of"):
        make_operator().resume_execution("execute_complete", {"event": {}}, make_context())


@pytest.mark.parametrize(
    "timeouts", [{"timeout": 100}, {"timeout": 500, "execution_timeout": timedelta(seconds=100)}], ids=" ".join
)
def test_the_trigger_waits_as_the_operator_would(timeouts: dict[str, Any], connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60)) as agent:
        connect(agent, "team_a")
        begun = time.time()
        with pytest.raises(TaskDeferred) as caught:
            run(deferrable=True, rayagent_conn_id="team_a", poll_interval=3, **timeouts)
    given = caught.value.trigger.serialize()[1]
    assert (given["job_id"], given["rayagent_conn_id"], given["forward_logs"]) == ("j1", "team_a", False)
    assert given["poll_interval"] == 3
    assert begun + 100 <= given["deadline"] <= time.time() + 100
    assert caught.value.timeout == timedelta(seconds=100 + TIMEOUT_MARGIN)
