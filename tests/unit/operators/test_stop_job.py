"""The operator that stops a job, in a worker and deferred."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobMissingError,
)
from airflow_provider_rayagent.operators import rayagent
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator
from tests.scripted import DEFAULT, Answer, Down, Html, Job, Play, Refuse, Reset, SetStatus, Sleep, Step
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import both_ways
from tests.unit.support import TOKEN, named

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

GET = "GET jobs/j1/"
STOP = "POST jobs/j1/stop/"
DONE = {"job_id": "j1", "status": "STOPPED", "stop_requested": True}
each_choice = pytest.mark.parametrize("choice", ["succeed", "skip", "fail"])


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rayagent, "MISSING_SECONDS", 0.5)


def make_operator(**overrides: Any) -> RayAgentStopJobOperator:
    arguments = {"task_id": "stop", "job_id": "j1", "poll_interval": 0.05, "timeout": PATIENCE, **overrides}
    return RayAgentStopJobOperator(**arguments)


run = both_ways(make_operator)


@pytest.mark.parametrize("status", ["RUNNING", "PENDING"])
def test_a_job_is_stopped_and_waited_for(status: str, run: Run, serve: Serve, log: TaskLog) -> None:
    details = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}, "metadata": {"x": "y"}}
    job = Job("a\n", status, stop_delay=0.3, details=details)
    agent = serve(job, token=TOKEN)
    result = run()
    assert result == DONE
    assert job.stop_calls == 1
    agent.wait_until(lambda: agent.open_connections == 0)
    assert log.lines_of("a\n") == []
    assert any(f"Stop of job j1 requested; its status was {status}" in message for message in log.messages)
    assert log.messages[-1] == "Job j1 is STOPPED."
    assert "s3cret" not in json.dumps([result, log.messages])
    assert run()["stop_requested"] is False


def test_without_waiting_the_answer_is_enough(run: Run, serve: Serve) -> None:
    agent = serve(Job(status="PENDING", stop_delay=60))
    assert run(wait_for_termination=False) == {**DONE, "status": "PENDING"}
    assert len(agent.of(GET)) == 1


FINISHED_MEANWHILE: list[Step] = [
    Play(SetStatus("SUCCEEDED"), Refuse(400, "Job has already ended")),
    Play(SetStatus("SUCCEEDED"), Answer(200, {"stopped": False})),
]


@pytest.mark.parametrize("step", FINISHED_MEANWHILE, ids=["answered 400", "answered that nothing was stopped"])
@pytest.mark.parametrize("wait", [True, False])
@each_choice
def test_a_job_that_ends_by_itself_meanwhile_counts_as_finished(
    choice: str, wait: bool, step: Step, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(Job(status="RUNNING"), answers={STOP: [step]})
    expect(choice, lambda: run(wait_for_termination=wait, if_finished=choice), "SUCCEEDED", log)


def expect(choice: str, call: Any, status: str | None, log: TaskLog) -> None:
    """Check what a choice makes of a job with which nothing is left to do, and that no triggerer is needed for it."""
    if choice == "succeed":
        assert call() == {"job_id": "j1", "status": status, "stop_requested": False}
    elif choice == "skip":
        with pytest.raises(AirflowSkipException, match="j1"):
            call()
    else:
        with pytest.raises(RayAgentError, match="j1") as caught:
            call()
        assert caught.value.status_code in (400, 404)
    assert not [message for message in log.messages if message.startswith("Deferring")]


@each_choice
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_the_author_chooses_what_a_finished_job_means(
    status: str, choice: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    agent = serve(Job(status=status))
    expect(choice, lambda: run(if_finished=choice), status, log)
    assert agent.of("POST") == []


@each_choice
@pytest.mark.parametrize("known", [False, True], ids=["at first", "at the stop"])
def test_the_author_chooses_what_an_unknown_job_means(
    known: bool, choice: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    looks: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(404)]} if known else {}
    answers = {STOP: [Answer(404, "Job j1 does not exist")], **looks}
    serve(*([Job(status="RUNNING")] if known else []), answers=answers)
    expect(choice, lambda: run(if_missing=choice), None, log)


def test_by_default_a_finished_job_is_a_success_and_an_unknown_one_a_failure(run: Run, serve: Serve) -> None:
    serve(Job(status="FAILED"))
    assert run() == {"job_id": "j1", "status": "FAILED", "stop_requested": False}
    serve()
    with pytest.raises(RayAgentJobMissingError, match="Job j1 does not exist"):
        run()


def test_a_job_that_goes_on_though_its_stop_was_answered_with_404_is_an_error(run: Run, serve: Serve) -> None:
    serve(Job(status="RUNNING"), answers={STOP: [Refuse(404)]})
    with pytest.raises(RayAgentError, match=r"Failed to stop job j1, which is RUNNING: .*404"):
        run(if_missing="succeed")


def test_a_stop_that_is_answered_with_404_for_a_moment_is_sent_again(run: Run, serve: Serve) -> None:
    answers: dict[str, list[Step]] = {STOP: [Refuse(404), DEFAULT], GET: [DEFAULT, Refuse(404), DEFAULT]}
    serve(Job(status="RUNNING", stop_delay=0.2), answers=answers)
    assert run(if_missing="succeed") == DONE


@pytest.mark.parametrize("away", [[Refuse(404)], [Html(404)] * 3], ids=named)
def test_a_job_that_is_not_known_for_a_moment_after_its_stop_is_not_gone(
    away: list[Step], run: Run, serve: Serve
) -> None:
    serve(Job(status="RUNNING", stop_delay=0.6), answers={GET: [DEFAULT, *away, DEFAULT]})
    assert run() == DONE


def test_a_job_that_vanishes_while_it_is_waited_for_is_done(run: Run, serve: Serve, log: TaskLog) -> None:
    serve(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, DEFAULT, Refuse(404)]})
    assert run() == {**DONE, "status": None}
    assert "RA-110: Job j1 no longer exists." in log.warnings


def test_a_job_that_ends_by_itself_while_it_is_waited_for_has_its_own_status(run: Run, serve: Serve) -> None:
    timeline = [Sleep(0.1), SetStatus("RUNNING"), Sleep(0.3), SetStatus("SUCCEEDED")]
    serve(Job(status="PENDING", timeline=timeline), answers={STOP: [Answer(200, {"stopped": True})]})
    assert run() == {**DONE, "status": "SUCCEEDED"}


def test_a_refused_stop_of_a_job_that_goes_on_is_an_error(run: Run, serve: Serve) -> None:
    serve(Job(status="RUNNING", type="DRIVER"))
    with pytest.raises(RayAgentHTTPError, match="Can only stop submission type jobs"):
        run()


@pytest.mark.parametrize(
    "away",
    [
        [Down(0.3)],
        [Down(0.3, "restart")],
        [Refuse(503)] * 5,
        [Html(502)] * 5,
        [Html(200)] * 3,
        [Refuse(500)] * 3,
        [Refuse(429)] * 5,
        [Play(Reset())] * 5,
    ],
    ids=named,
)
def test_an_agent_that_is_away_for_a_moment_while_waiting_is_asked_again(
    away: list[Step], run: Run, serve: Serve
) -> None:
    agent = serve(Job(status="RUNNING", stop_delay=0.4), answers={GET: [DEFAULT, *away, DEFAULT]})
    assert run() == DONE
    assert agent.jobs["j1"].stop_calls == 1


def test_a_token_that_is_refused_while_waiting_ends_it_at_once(run: Run, serve: Serve) -> None:
    serve(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, Refuse(401)]})
    with pytest.raises(RayAgentHTTPError, match="answered 401"):
        run(timeout=60)


def test_a_stop_whose_answer_is_lost_is_not_sent_again(run: Run, serve: Serve) -> None:
    agent = serve(Job(status="RUNNING"), answers={STOP: [Play(Reset())]})
    with pytest.raises(RayAgentConnectionError):
        run()
    assert len(agent.of(STOP)) == 1


@pytest.mark.parametrize(
    ("looks", "words"),
    [([DEFAULT], r"still PENDING after 0\.3 seconds"), ([DEFAULT, Refuse(503, "maintenance")], "maintenance")],
)
def test_a_job_that_does_not_stop_in_time_is_a_named_error_with_its_status_and_the_agents_last_error(
    looks: list[Step], words: str, run: Run, serve: Serve
) -> None:
    serve(Job(status="PENDING", stop_delay=PATIENCE), answers={GET: looks})
    with pytest.raises(RayAgentError, match=words) as caught:
        run(timeout=0.3)
    assert caught.value.status_code == 408


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "abc"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": None}, "poll_interval"),
        ({"if_missing": "ignore"}, "Unknown if_missing 'ignore': use one of succeed, skip, fail"),
        ({"if_missing": None}, "if_missing"),
        ({"if_finished": True}, "if_finished"),
    ],
)
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(RayAgentInputError, match=word):
        make_operator(**overrides)


def test_a_job_that_waits_in_the_agents_queue_is_stopped(run: Run, serve: Serve) -> None:
    """Such a job is not known yet, but an agent may take it out of its queue all the same."""
    serve(Job(status="RUNNING", stop_delay=0.2), answers={GET: [Refuse(404), DEFAULT]})
    assert run(if_missing="succeed") == DONE
