"""What becomes of the task: by the job's status, and by nothing else."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentInputError,
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
    RayAgentJobTimeoutError,
)
from tests.scripted import (
    DEFAULT,
    Do,
    Down,
    Grow,
    Hold,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Silence,
    Sleep,
    Step,
    WaitForStream,
)
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import make_sensor, run
from tests.unit.support import HOSTILE_IDS, TOKEN, TaskInstance, make_context, named, task_log, until

if TYPE_CHECKING:
    from tests.unit.support import Connect

GET = "GET jobs/j1/"


def make_ending_job(status: str, **overrides: Any) -> Job:
    """Return a job that runs for a moment."""
    timeline = [Grow("a line\n"), Sleep(0.1), SetStatus(status)]
    return Job(**{"status": "RUNNING", "timeline": timeline, **overrides})


def test_a_job_that_succeeds_is_a_success_with_its_details(connect: Connect) -> None:
    details = {"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}, "metadata": {"who": "me"}}
    ti = TaskInstance()
    with ScriptedAgent(make_ending_job("SUCCEEDED", details=details), token=TOKEN) as agent, task_log() as log:
        connect(agent)
        result = run(ti)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert (result["status"], result["submission_id"], result["metadata"]) == ("SUCCEEDED", "j1", {"who": "me"})
    assert isinstance(result["duration"], float)
    for text in (json.dumps(result), *log.messages):
        assert "s3cret" not in text
    assert ti.xcoms == {}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("forward_logs", [True, False])
@pytest.mark.parametrize(
    ("status", "error"), [("FAILED", RayAgentJobFailedError), ("STOPPED", RayAgentJobStoppedError)]
)
def test_a_job_that_failed_or_was_stopped_fails_the_task_for_good_with_its_details(
    mode: str, forward_logs: bool, status: str, error: type[Exception], connect: Connect
) -> None:
    message = "Job entrypoint command failed with exit code 1, last lines:\nKeyError: 'x'"
    ti = TaskInstance()
    job = Job("KeyError: 'x'\n", status, message=message, details={"runtime_env": {"env_vars": {"KEY": "job-s3cret"}}})
    with ScriptedAgent(job) as agent:
        connect(agent)
        with pytest.raises(error) as caught:
            run(ti, mode=mode, forward_logs=forward_logs)
    assert isinstance(caught.value, AirflowFailException)
    assert f"Job j1 ended as {status}" in str(caught.value)
    assert message in str(caught.value)
    assert ti.xcoms["return_value"]["status"] == status
    assert ti.xcoms["return_value"]["message"] == message
    assert "s3cret" not in json.dumps(ti.xcoms) + str(caught.value)


def test_a_token_of_ours_that_the_job_printed_is_in_no_error_and_no_xcom(connect: Connect) -> None:
    ti = TaskInstance()
    job = Job("x\n", "FAILED", message=f"last lines:\nusing {TOKEN}", details={"metadata": {"key": TOKEN}})
    with ScriptedAgent(job) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobFailedError, match="last lines") as caught:
            run(ti)
    assert TOKEN not in json.dumps(ti.xcoms) + str(caught.value)


def test_a_status_that_is_not_known_is_watched_on(connect: Connect) -> None:
    job = Job(status="RUNNING", polls=["MIGRATING", "MIGRATING", "SUCCEEDED"])
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        assert run(poke_interval=0.5)["status"] == "SUCCEEDED"
    assert len([warning for warning in log.warnings if "'MIGRATING'" in warning]) == 1


def test_a_status_that_is_not_known_with_an_end_is_a_failure(connect: Connect) -> None:
    ti = TaskInstance()
    with ScriptedAgent(Job(status="EVICTED", details={"end_time": 5})) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobFailedError, match="EVICTED"):
            run(ti)
    assert ti.xcoms["return_value"]["status"] == "EVICTED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_job_that_is_never_known_is_missing_after_its_time(mode: str, connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        begun = time.monotonic()
        with pytest.raises(RayAgentJobMissingError, match=r"Job j1 still does not exist after 0\.6 seconds") as caught:
            run(job_missing_timeout=0.6, mode=mode)
        assert time.monotonic() - begun > 0.5
    assert caught.value.status_code == 404
    assert AirflowFailException not in caught.type.__mro__


def test_a_job_that_is_still_in_the_agents_queue_is_waited_for(connect: Connect) -> None:
    with ScriptedAgent(Job("a\n"), answers={GET: [Refuse(404), Refuse(404), DEFAULT]}) as agent:
        connect(agent)
        assert run(poke_interval=0.1, job_missing_timeout=PATIENCE)["status"] == "SUCCEEDED"


def test_a_job_that_vanishes_is_missing_though_it_was_known(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, Refuse(404)]}
    with ScriptedAgent(Job("a\n", status="RUNNING", ws=[Play(Hold())]), answers=answers) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobMissingError, match="Job j1 no longer exists"):
            run(poke_interval=0.1, job_missing_timeout=0.6)


@pytest.mark.parametrize(
    "away",
    [[Down(0.7, "restart")], [Refuse(503)] * 2, [Html(502), Html(200)], [Play(Reset())] * 2, [Refuse(401)]],
    ids=named,
)
def test_an_agent_that_is_away_for_a_while_does_not_decide_the_outcome(away: list[Step], connect: Connect) -> None:
    job = Job("a\n", status="RUNNING", timeline=[Sleep(1.2), SetStatus("SUCCEEDED")])
    with ScriptedAgent(job, answers={GET: [DEFAULT, *away, DEFAULT]}) as agent:
        connect(agent)
        assert run(poke_interval=0.3)["status"] == "SUCCEEDED"


def test_an_agent_that_stays_away_is_the_agents_last_error(connect: Connect) -> None:
    connect(NO_AGENT)
    begun = time.monotonic()
    with pytest.raises(RayAgentConnectionError, match="Nothing listens"):
        run(agent_unreachable_timeout=1, poke_interval=0.3)
    assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_refused_token_ends_it_at_the_first_look(mode: str, connect: Connect) -> None:
    with ScriptedAgent(Job(), token="another") as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError) as caught:
            run(mode=mode)
        assert len(agent.requests) == 1
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, 0.8])
@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_job_that_goes_on_past_the_timeout_is_a_sensors_timeout(
    timeout: float, status: str, connect: Connect
) -> None:
    with ScriptedAgent(Job("a\n", status=status, ws=[Play(Hold())])) as agent:
        connect(agent)
        begun = time.monotonic()
        with pytest.raises(
            RayAgentJobTimeoutError, match=f"timeout of {timeout} seconds; its status is {status}"
        ) as caught:
            run(timeout=timeout, poke_interval=PATIENCE)
        assert time.monotonic() - begun < PATIENCE
        *earlier, last = agent.of(GET)
        assert len(earlier) <= (1 if timeout else 0)
        assert last.time >= begun + timeout
    assert isinstance(caught.value, AirflowSensorTimeout)


@pytest.mark.parametrize("timeout", [0, 0.5])
def test_the_last_look_at_the_timeout_still_sees_the_end(timeout: float, connect: Connect) -> None:
    job = Job("a\n", status="RUNNING", polls=until(time.time() + timeout), ws=[Play(Hold())])
    with ScriptedAgent(job) as agent:
        connect(agent)
        assert run(timeout=timeout, poke_interval=PATIENCE)["status"] == "SUCCEEDED"


def test_a_timeout_covers_an_agent_that_never_answers(connect: Connect) -> None:
    with ScriptedAgent(Job(), answers={"*": [Play(Silence())]}) as agent:
        connect(agent, extra={"read_timeout": 0.2})
        with pytest.raises(RayAgentJobTimeoutError, match="status is unknown"):
            run(timeout=0.5, poke_interval=0.1)


@pytest.mark.parametrize("status", ["FAILED", "STOPPED", "RUNNING"])
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_soft_fail_and_never_fail_skip_what_the_job_is_to_blame_for(option: str, status: str, connect: Connect) -> None:
    with ScriptedAgent(Job(status=status, ws=[Play(Hold())])) as agent:
        connect(agent)
        with task_log() as log, pytest.raises(AirflowSkipException):
            make_sensor(timeout=0.2, **{option: True}).execute(make_context())
    assert [message for message in log.messages if "Job j1 ended as" in message or "did not end" in message]


def test_soft_fail_does_not_hide_what_the_job_is_not_to_blame_for(connect: Connect) -> None:
    with ScriptedAgent(token="another") as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            run(soft_fail=True)
        with pytest.raises(RayAgentInputError):
            run(soft_fail=True, job_id="../x")
        connect("ftp://x")
        with pytest.raises(RayAgentConfigError):
            run(soft_fail=True)


def test_never_fail_skips_an_unknown_job_too(connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(AirflowSkipException):
            run(never_fail=True, job_missing_timeout=0.1)


@pytest.mark.parametrize("job_id", [value for value in HOSTILE_IDS if isinstance(value, str)], ids=ascii)
def test_a_hostile_id_is_refused_before_anything_is_sent(job_id: str, connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        with pytest.raises(RayAgentInputError, match="job id"):
            run(job_id=job_id)
        assert agent.connections == 0


def test_a_kill_ends_the_following_at_once_and_leaves_the_job_alone(connect: Connect) -> None:
    before = set(threading.enumerate())
    job = Job("a\n", status="RUNNING", ws=[Play(Hold())])
    with ScriptedAgent(job) as agent:
        server = set(threading.enumerate()) - before
        connect(agent)
        sensor = make_sensor(poke_interval=PATIENCE)
        job.timeline = [WaitForStream(), Do(sensor.on_kill)]
        begun = time.monotonic()
        assert sensor.poke(make_context()) is False
        assert time.monotonic() - begun < PATIENCE
        assert job.stop_calls == 0
        agent.wait_until(lambda: agent.open_connections == 0)
        assert set(threading.enumerate()) - before == server


def test_an_attempt_after_the_first_begins_anew(connect: Connect) -> None:
    with ScriptedAgent(Job("a\nb\n")) as agent:
        connect(agent)
        sensor = make_sensor(timeout=1)
        for _ in range(2):
            with task_log() as log:
                assert sensor.execute(make_context())["status"] == "SUCCEEDED"
            assert log.lines_of("a\nb\n") == ["a", "b"]
            time.sleep(0.6)
