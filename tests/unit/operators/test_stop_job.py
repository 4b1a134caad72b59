"""The operator that stops a job."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobMissingError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.operators import rayagent
from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator
from tests.scripted import DEFAULT, Answer, Down, Html, Job, Play, Refuse, Reset, ScriptedAgent, SetStatus, Sleep, Step
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import execute
from tests.unit.support import HOSTILE_IDS, TOKEN, make_context, named, task_log

if TYPE_CHECKING:
    from tests.scripted import Request
    from tests.unit.support import Connect

GET = "GET jobs/j1/"
STOP = "POST jobs/j1/stop/"
CHOICES = ["succeed", "skip", "fail"]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rayagent, "MISSING_SECONDS", 0.5)


def make_operator(**overrides: Any) -> RayAgentStopJobOperator:
    arguments = {"task_id": "stop", "job_id": "j1", "poll_interval": 0.05, "timeout": PATIENCE, **overrides}
    return RayAgentStopJobOperator(**arguments)


def run(**overrides: Any) -> Any:
    return make_operator(**overrides).execute(make_context())


def test_a_running_job_is_stopped_and_waited_for(connect: Connect) -> None:
    def stop(request: Request) -> None:
        if request.ended and len(agent.of(GET)) == 4:
            job.set_status("STOPPED")

    job = Job(status="RUNNING", stop_delay=PATIENCE)
    with ScriptedAgent(job, token=TOKEN) as agent, task_log() as log:
        connect(agent)
        agent.on_request = stop
        assert run() == {"job_id": "j1", "status": "STOPPED", "stop_requested": True}
        assert job.stop_calls == 1
        assert len(agent.of(GET)) == 5
        agent.wait_until(lambda: agent.open_connections == 0)
    assert any("Stop of job j1 requested; its status was RUNNING" in message for message in log.messages)
    assert any("Job j1 is STOPPED" in message for message in log.messages)


def test_without_waiting_the_answer_is_enough(connect: Connect) -> None:
    with ScriptedAgent(Job(status="PENDING", stop_delay=60)) as agent:
        connect(agent)
        assert run(wait_for_termination=False) == {"job_id": "j1", "status": "PENDING", "stop_requested": True}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_re_run_on_a_job_that_has_ended_is_harmless(status: str, connect: Connect) -> None:
    with ScriptedAgent(Job(status=status)) as agent:
        connect(agent)
        for _ in range(2):
            assert run() == {"job_id": "j1", "status": status, "stop_requested": False}
        assert agent.of("POST") == []


def test_a_second_run_after_the_first_stopped_the_job_is_harmless(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING")) as agent:
        connect(agent)
        assert [run()["stop_requested"], run()["stop_requested"]] == [True, False]


FINISHED_MEANWHILE: list[Step] = [
    Play(SetStatus("SUCCEEDED"), Refuse(400, "Job has already ended")),
    Play(SetStatus("SUCCEEDED"), Answer(200, {"stopped": False})),
]


@pytest.mark.parametrize("step", FINISHED_MEANWHILE, ids=["answered 400", "answered that nothing was stopped"])
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("choice", CHOICES)
def test_a_job_that_ends_by_itself_meanwhile_counts_as_finished(
    step: Step, wait: bool, choice: Any, connect: Connect
) -> None:
    with ScriptedAgent(Job(status="RUNNING"), answers={STOP: [step]}) as agent:
        connect(agent)
        expect(choice, lambda: run(wait_for_termination=wait, if_finished=choice), "SUCCEEDED")


def expect(choice: str, call: Any, status: str | None) -> None:
    """Check what a choice makes of a job with which nothing is left to do."""
    if choice == "succeed":
        assert call() == {"job_id": "j1", "status": status, "stop_requested": False}
    elif choice == "skip":
        with pytest.raises(AirflowSkipException, match="j1"):
            call()
    else:
        with pytest.raises(RayAgentError, match="j1") as caught:
            call()
        assert caught.value.status_code in (400, 404)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_the_author_chooses_what_a_finished_job_means(choice: Any, status: str, connect: Connect) -> None:
    with ScriptedAgent(Job(status=status)) as agent:
        connect(agent)
        expect(choice, lambda: run(if_finished=choice), status)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("known", [False, True], ids=["at first", "at the stop"])
def test_the_author_chooses_what_an_unknown_job_means(choice: Any, known: bool, connect: Connect) -> None:
    jobs = [Job(status="RUNNING")] if known else []
    answers: dict[str, list[Step]] = {STOP: [Answer(404, "Job j1 does not exist")]}
    if known:
        answers[GET] = [DEFAULT, Refuse(404)]
    with ScriptedAgent(*jobs, answers=answers) as agent:
        connect(agent)
        expect(choice, lambda: run(if_missing=choice), None)


def test_a_job_that_goes_on_though_its_stop_was_answered_with_404_is_an_error(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING"), answers={STOP: [Answer(404, "no")]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentError, match=r"Failed to stop job j1, which is RUNNING: .*404"):
            run(if_missing="succeed")


def test_a_stop_that_is_answered_with_404_for_a_moment_is_sent_again(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {STOP: [Answer(404, "no"), DEFAULT], GET: [DEFAULT, Refuse(404), DEFAULT]}
    with ScriptedAgent(Job(status="RUNNING", stop_delay=0.2), answers=answers) as agent:
        connect(agent)
        assert run(if_missing="succeed") == {"job_id": "j1", "status": "STOPPED", "stop_requested": True}


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("away", [[Refuse(404)], [Html(404)] * 3], ids=named)
def test_a_job_that_is_not_known_for_a_moment_after_its_stop_is_not_gone(
    away: list[Step], deferrable: bool, connect: Connect
) -> None:
    job = Job(status="RUNNING", stop_delay=0.6)
    with ScriptedAgent(job, answers={GET: [DEFAULT, *away, DEFAULT]}) as agent:
        connect(agent)
        result = execute(lambda: make_operator(deferrable=deferrable), make_context())
    assert result == {"job_id": "j1", "status": "STOPPED", "stop_requested": True}


def test_by_default_an_unknown_job_is_a_failure(connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(RayAgentJobMissingError, match="Job j1 does not exist"):
            run()


def test_a_job_that_vanishes_while_it_is_waited_for_is_done(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, DEFAULT, Refuse(404)]}) as agent:
        connect(agent)
        with task_log() as log:
            assert run() == {"job_id": "j1", "status": None, "stop_requested": True}
    assert log.warnings == ["RA-110: Job j1 no longer exists."]


def test_a_refused_stop_of_a_job_that_goes_on_is_an_error(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", type="DRIVER")) as agent:
        connect(agent)
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
def test_an_agent_that_is_away_for_a_moment_while_waiting_is_asked_again(away: list[Step], connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=0.4), answers={GET: [DEFAULT, *away, DEFAULT]}) as agent:
        connect(agent)
        assert run()["status"] == "STOPPED"
        assert agent.jobs["j1"].stop_calls == 1


def test_a_token_that_is_refused_while_waiting_ends_it_at_once(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=60), answers={GET: [DEFAULT, Refuse(401)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            run(timeout=60)


def test_a_stop_whose_answer_is_lost_is_not_sent_again(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING"), answers={STOP: [Play(Reset())]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentConnectionError):
            run()
        assert len(agent.of(STOP)) == 1


def test_a_job_that_does_not_stop_in_time_is_a_named_error_with_its_status(connect: Connect) -> None:
    with ScriptedAgent(Job(status="PENDING", stop_delay=PATIENCE)) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match=r"still PENDING after 0\.3 seconds") as caught:
            run(timeout=0.3)
        assert caught.value.status_code == 408


def test_a_time_out_tells_of_the_agent_that_was_away(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(503, "maintenance")]}
    with ScriptedAgent(Job(status="RUNNING", stop_delay=PATIENCE), answers=answers) as agent:
        connect(agent)
        with pytest.raises(RayAgentWaitTimeoutError, match="maintenance"):
            run(timeout=0.3)


def test_a_kill_ends_the_waiting_at_once(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=PATIENCE)) as agent:
        connect(agent)
        operator = make_operator(poll_interval=PATIENCE, timeout=2 * PATIENCE)
        killer = threading.Timer(0.3, operator.on_kill)
        killer.start()
        begun = time.monotonic()
        with pytest.raises(RayAgentWaitTimeoutError):
            operator.execute(make_context())
        assert time.monotonic() - begun < PATIENCE
        killer.join()


def test_the_result_is_json_without_the_jobs_secrets(connect: Connect) -> None:
    details = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}, "metadata": {"x": "y"}}
    with ScriptedAgent(Job(status="RUNNING", details=details)) as agent, task_log() as log:
        connect(agent)
        text = json.dumps(run())
    assert "s3cret" not in text
    assert not [message for message in log.messages if "s3cret" in message]


@pytest.mark.parametrize("job_id", [value for value in HOSTILE_IDS if isinstance(value, str)], ids=ascii)
def test_a_hostile_id_is_refused_before_anything_is_sent(job_id: str, connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING")) as agent:
        connect(agent)
        with pytest.raises(RayAgentInputError, match="job id"):
            run(job_id=job_id)
        assert agent.connections == 0


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
        ({"if_missing": "ignore"}, "if_missing"),
        ({"if_missing": None}, "if_missing"),
        ({"if_finished": True}, "if_finished"),
    ],
)
def test_a_bad_argument_is_refused_when_the_dag_is_read(overrides: dict[str, Any], word: str) -> None:
    with pytest.raises(RayAgentInputError, match=word):
        make_operator(**overrides)


def test_the_id_and_the_connection_are_templates(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING", job_id="train-7")) as agent:
        connect(agent, "team_a")
        operator = make_operator(job_id="train-{{ night }}", rayagent_conn_id="team_{{ team }}")
        operator.render_template_fields({"night": "7", "team": "a"})  # type: ignore[typeddict-unknown-key]
        assert operator.execute(make_context())["job_id"] == "train-7"
        assert agent.jobs["train-7"].stop_calls == 1


def test_a_job_that_takes_its_time_is_followed_through_its_statuses(connect: Connect) -> None:
    job = Job(status="PENDING", stop_delay=0.3, timeline=[Sleep(0.1), SetStatus("RUNNING")])
    with ScriptedAgent(job) as agent:
        connect(agent)
        assert run()["status"] == "STOPPED"


def test_a_job_that_waits_in_the_agents_queue_is_stopped(connect: Connect) -> None:
    """Such a job is not known yet, but an agent may take it out of its queue all the same."""
    job = Job(status="RUNNING", stop_delay=0.2)
    with ScriptedAgent(job, answers={GET: [Refuse(404), DEFAULT]}) as agent:
        connect(agent)
        assert run(if_missing="succeed") == {"job_id": "j1", "status": "STOPPED", "stop_requested": True}
