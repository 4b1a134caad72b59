"""What becomes of the task, in a worker and deferred: by the job's status, and by nothing else."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
    RayAgentJobTimeoutError,
    RayAgentServerError,
)
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from tests.scripted import (
    DEFAULT,
    Down,
    Grow,
    Hold,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    SetStatus,
    Silence,
    Sleep,
    Step,
)
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import TOKEN, make_context, named, task_log, until

if TYPE_CHECKING:
    from tests.unit.both_ways import Run
    from tests.unit.support import Connect, Serve, TaskLog

GET = "GET jobs/j1/"
SECRET: dict[str, Any] = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}, "metadata": {"who": "me"}}


def make_ending_job(status: str, **overrides: Any) -> Job:
    """Return a job that runs for a moment."""
    timeline = [Grow("a line\n"), Sleep(0.1), SetStatus(status)]
    return Job(**{"status": "RUNNING", "timeline": timeline, **overrides})


def make_silent_job(status: str = "RUNNING", **overrides: Any) -> Job:
    """Return a job that goes on, with a stream that stays open."""
    return Job(**{"text": "a\n", "status": status, "ws": [Play(Hold())], **overrides})


def test_a_job_that_succeeds_is_a_success_with_its_details(run: Run, serve: Serve, log: TaskLog) -> None:
    context = make_context()
    agent = serve(make_ending_job("SUCCEEDED", details=SECRET), token=TOKEN)
    result = run(context=context)
    agent.wait_until(lambda: agent.open_connections == 0)
    assert (result["status"], result["submission_id"], result["metadata"]) == ("SUCCEEDED", "j1", {"who": "me"})
    assert isinstance(result["duration"], float)
    for text in (json.dumps(result), *log.messages):
        assert "s3cret" not in text
    assert context["ti"].xcoms.keys() <= {POSITION_KEY}


@pytest.mark.parametrize("forward_logs", [True, False])
@pytest.mark.parametrize("make_job", [Job, make_ending_job])
@pytest.mark.parametrize(
    ("status", "error"), [("FAILED", RayAgentJobFailedError), ("STOPPED", RayAgentJobStoppedError)]
)
def test_a_job_that_failed_or_was_stopped_fails_the_task_for_good_with_its_details(
    status: str, error: type[Exception], make_job: Any, forward_logs: bool, run: Run, serve: Serve
) -> None:
    message = "Job entrypoint command failed with exit code 1, last lines:\nKeyError: 'x'"
    context = make_context()
    serve(make_job(status=status, message=message, details=SECRET))
    with pytest.raises(error) as caught:
        run(context=context, forward_logs=forward_logs)
    assert isinstance(caught.value, AirflowFailException)
    assert f"Job j1 ended as {status}" in str(caught.value)
    assert message.replace("\n", "\n  ") in str(caught.value)
    xcom = context["ti"].xcoms["return_value"]
    assert (xcom["status"], xcom["message"]) == (status, message)
    assert "s3cret" not in json.dumps(context["ti"].xcoms) + str(caught.value)


def test_a_status_that_is_not_known_is_watched_on(run: Run, serve: Serve, log: TaskLog) -> None:
    serve(Job(status="RUNNING", polls=["RUNNING", "MIGRATING", "MIGRATING", "SUCCEEDED"]))
    assert run(poke_interval=0.5)["status"] == "SUCCEEDED"
    assert len([warning for warning in log.warnings if "'MIGRATING'" in warning]) == 1


def test_a_status_that_is_not_known_with_an_end_is_a_failure(run: Run, serve: Serve) -> None:
    context = make_context()
    serve(make_ending_job("EVICTED", details={"end_time": 5}))
    with pytest.raises(RayAgentJobFailedError, match="EVICTED"):
        run(context=context)
    assert context["ti"].xcoms["return_value"]["status"] == "EVICTED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_job_that_is_never_known_is_missing_after_its_time(mode: str, run: Run, serve: Serve) -> None:
    serve()
    begun = time.monotonic()
    with pytest.raises(RayAgentJobMissingError, match=r"Job j1 still does not exist after 0\.6 seconds") as caught:
        run(job_missing_timeout=0.6, mode=mode)
    assert time.monotonic() - begun > 0.5
    assert caught.value.status_code == 404
    assert AirflowFailException not in caught.type.__mro__


def test_a_job_that_is_still_in_the_agents_queue_is_waited_for(run: Run, serve: Serve) -> None:
    serve(Job("a\n"), answers={GET: [Refuse(404), Refuse(404), DEFAULT]})
    assert run(poke_interval=0.1, job_missing_timeout=PATIENCE)["status"] == "SUCCEEDED"


def test_a_job_that_vanishes_is_missing_though_it_was_known(run: Run, serve: Serve) -> None:
    serve(make_silent_job(), answers={GET: [DEFAULT, DEFAULT, Refuse(404)]})
    with pytest.raises(RayAgentJobMissingError, match="Job j1 no longer exists"):
        run(poke_interval=0.1, job_missing_timeout=0.6)


@pytest.mark.parametrize(
    "away",
    [[Down(0.7, "restart")], [Refuse(503)] * 2, [Html(502), Html(200)], [Play(Reset())] * 2, [Refuse(401)]],
    ids=named,
)
def test_an_agent_that_is_away_for_a_while_does_not_decide_the_outcome(
    away: list[Step], run: Run, serve: Serve, log: TaskLog
) -> None:
    job = Job("a\n", "RUNNING", timeline=[Sleep(1.2), SetStatus("SUCCEEDED")])
    serve(job, answers={GET: [DEFAULT, DEFAULT, *away, DEFAULT]})
    assert run(poke_interval=0.3)["status"] == "SUCCEEDED"
    assert log.lines_of("a\n") == ["a"]


def test_an_agent_that_stays_away_is_the_agents_last_error(run: Run, connect: Connect, serve: Serve) -> None:
    serve(make_silent_job(), answers={GET: [DEFAULT, DEFAULT, Refuse(503, "no luck")]})
    with pytest.raises(RayAgentServerError, match="no luck") as caught:
        run(agent_unreachable_timeout=0.3, poke_interval=0.3)
    assert caught.value.status_code == 503
    connect(NO_AGENT)
    begun = time.monotonic()
    with pytest.raises(RayAgentConnectionError, match="Nothing listens"):
        run(agent_unreachable_timeout=1, poke_interval=0.3)
    assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_refused_token_ends_it_at_the_first_look(mode: str, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = serve(make_silent_job(), token="another")
    with pytest.raises(RayAgentHTTPError, match="answered 401") as caught:
        run(mode=mode)
    assert len(agent.requests) == 1
    assert not [text for text in (str(caught.value), *log.messages) if TOKEN in text]


@pytest.mark.parametrize("timeout", [0, 0.8])
@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_job_that_goes_on_past_the_timeout_is_a_sensors_timeout(
    timeout: float, status: str, way: str, run: Run, serve: Serve
) -> None:
    agent = serve(make_silent_job(status))
    begun = time.monotonic()
    with pytest.raises(
        RayAgentJobTimeoutError, match=f"timeout of {timeout} seconds; its status is {status}"
    ) as caught:
        run(timeout=timeout, poke_interval=PATIENCE)
    assert time.monotonic() - begun < PATIENCE
    *earlier, last = agent.of(GET)
    assert len(earlier) <= (way == "deferred") + bool(timeout)
    assert last.time >= begun + timeout
    assert isinstance(caught.value, AirflowSensorTimeout)


@pytest.mark.parametrize("timeout", [0, 0.6])
def test_the_last_look_at_the_timeout_still_sees_the_end(timeout: float, run: Run, serve: Serve, log: TaskLog) -> None:
    serve(make_silent_job(polls=until(time.time() + timeout)))
    assert run(timeout=timeout, poke_interval=PATIENCE)["status"] == "SUCCEEDED"
    assert log.lines_of("a\n") == ["a"]


@pytest.mark.parametrize("answer", [Refuse(404), Play(Silence())], ids=named)
def test_the_timeout_covers_a_job_that_cannot_be_seen(answer: Step, run: Run, serve: Serve) -> None:
    serve(Job(), answers={"*": [answer], GET: [answer]}, extra={"read_timeout": 0.2})
    with pytest.raises(RayAgentJobTimeoutError, match=r"timeout of 0\.5 seconds; its status is unknown"):
        run(timeout=0.5, poke_interval=0.1)


@pytest.mark.parametrize("status", ["FAILED", "STOPPED", "RUNNING"])
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_soft_fail_and_never_fail_skip_what_the_job_is_to_blame_for(
    option: str, status: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    serve(make_ending_job(status, ws=[Play(Hold())]))
    with pytest.raises(AirflowSkipException):
        run(timeout=PATIENCE if status != "RUNNING" else 0.2, **{option: True})
    assert [message for message in log.messages if "Job j1 ended as" in message or "did not end" in message]


def test_soft_fail_does_not_hide_what_the_job_is_not_to_blame_for(run: Run, connect: Connect, serve: Serve) -> None:
    serve()
    with pytest.raises(RayAgentJobMissingError):
        run(soft_fail=True, job_missing_timeout=0.1)
    serve(token="another")
    with pytest.raises(RayAgentHTTPError, match="answered 401"):
        run(soft_fail=True)
    with pytest.raises(RayAgentInputError):
        run(soft_fail=True, job_id="../x")
    connect("ftp://x")
    with pytest.raises(RayAgentConfigError):
        run(soft_fail=True)


@pytest.mark.parametrize("token", [None, "another"])
def test_never_fail_skips_an_unknown_job_and_a_refused_token_too(token: str | None, run: Run, serve: Serve) -> None:
    serve(token=token)
    with pytest.raises(AirflowSkipException):
        run(never_fail=True, job_missing_timeout=0.1)


def test_an_attempt_after_the_first_begins_anew(serve: Serve) -> None:
    serve(Job("a\nb\n"))
    sensor = make_sensor(timeout=1)
    for _ in range(2):
        with task_log() as log:
            assert sensor.execute(make_context())["status"] == "SUCCEEDED"
        assert log.lines_of("a\nb\n") == ["a", "b"]
        time.sleep(0.6)
