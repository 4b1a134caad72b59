"""``deferrable=True``: a look, one deferral, and the conclusion in a worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
)

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentJobFailedError,
    RayAgentJobTimeoutError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.tasks import log_position
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from airflow_provider_rayagent.triggers.position import POSITION_KEY
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from tests.scripted import DEFAULT, Job, Play, Refuse, ScriptedAgent, SetStatus, Silence, Sleep
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import event_of
from tests.unit.sensors.deferral import deferral, resume, run_deferred
from tests.unit.sensors.factory import make_sensor, run
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, StateStore, TaskInstance, make_context, named, task_log

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect

ROOT = Path(__file__).resolve().parents[3]
GET = "GET jobs/j1/"
FAIL = "__fail__"
TIMED_OUT = {"error": "Trigger timeout"}
CRASHED = {"error": "Trigger failure", "traceback": ["ZeroDivisionError: division by zero"]}


def event(status: str = "SUCCEEDED", end: str = "job ended") -> dict[str, Any]:
    return {"event": {"end": end, "status": status, "error": None}}


def test_airflows_setting_is_the_default() -> None:
    code = (
        "from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor as S\n"
        "print(S(task_id='a', job_id='j1').deferrable, S(task_id='b', job_id='j1', deferrable=False).deferrable)"
    )
    environment = {**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.stdout.split() == ["True", "False"], told.stderr
    assert make_sensor().deferrable is False


@pytest.mark.parametrize(
    ("arguments", "interval"),
    [({}, 5), ({"mode": "reschedule"}, 5), ({"poke_interval": 7}, 7), ({"poke_interval": timedelta(minutes=2)}, 120)],
)
def test_the_default_interval_is_short_whatever_the_mode(arguments: dict[str, Any], interval: float) -> None:
    assert make_sensor(deferrable=True, **arguments).poke_interval == interval


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "MIGRATING"])
def test_a_job_that_goes_on_is_looked_at_once_and_deferred(status: str, connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status)) as agent, task_log() as log:
        connect(agent)
        deferred = deferral()
        assert [request.route for request in agent.requests] == [GET]
        agent.wait_until(lambda: agent.open_connections == 0)
    assert deferred.method_name == "execute_complete"
    assert isinstance(deferred.trigger, RayAgentJobTrigger)
    assert log.lines_of("a\n") == []
    assert len([message for message in log.messages if "triggerer follows job j1" in message]) == 1


def test_the_trigger_gets_what_the_sensor_was_given(connect: Connect) -> None:
    arguments: dict[str, Any] = {
        "rayagent_conn_id": "team_a",
        "forward_logs": False,
        "protocol": "http",
        "job_missing_timeout": 7.0,
        "agent_unreachable_timeout": 8.0,
        "max_line_length": 900,
        "stop_job_on_kill": True,
    }
    with ScriptedAgent(Job(job_id="train-7", status="RUNNING")) as agent:
        connect(agent, "team_a")
        begun = time.time()
        _, given = deferral(job_id="train-7", poke_interval=9, timeout=100, **arguments).trigger.serialize()
    assert {name: given[name] for name in arguments} == arguments
    assert (given["job_id"], given["poll_interval"], given["cursor"]) == ("train-7", 9, None)
    assert begun + 100 <= given["deadline"] <= time.time() + 100


@pytest.mark.parametrize(
    ("execution_timeout", "seconds"), [(None, 100), (timedelta(seconds=40), 40), (timedelta(seconds=400), 100)]
)
@pytest.mark.parametrize("start_from_trigger", [False, True])
def test_airflows_own_timeout_is_the_shorter_of_both_and_a_margin(
    execution_timeout: timedelta | None, seconds: float, start_from_trigger: bool, connect: Connect
) -> None:
    arguments: dict[str, Any] = {"timeout": 100, "execution_timeout": execution_timeout}
    if start_from_trigger:
        start: Any = make_sensor(start_from_trigger=True, **arguments).start_trigger_args
        told = start.timeout
    else:
        with ScriptedAgent(Job(status="RUNNING")) as agent:
            connect(agent)
            told = deferral(**arguments).timeout
    assert told == timedelta(seconds=seconds + TIMEOUT_MARGIN)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_has_ended_is_handled_without_a_deferral(status: str, connect: Connect) -> None:
    ti = TaskInstance()
    with ScriptedAgent(Job("a\nb\n", status)) as agent, task_log() as log:
        connect(agent)
        if status == "FAILED":
            with pytest.raises(RayAgentJobFailedError):
                run(ti, deferrable=True)
            assert ti.xcoms["return_value"]["status"] == status
        else:
            assert run(ti, deferrable=True)["status"] == status
    assert log.lines_of("a\nb\n") == ["a", "b"]


def test_a_refused_token_is_an_error_at_once(connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING"), token="another") as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            run(deferrable=True)
        assert len(agent.requests) == 1


@pytest.mark.parametrize("answer", [Refuse(404), Refuse(503), Play(Silence())], ids=named)
def test_where_the_job_cannot_be_seen_at_first_it_is_waited_for_in_the_triggerer(
    answer: Step, connect: Connect
) -> None:
    with ScriptedAgent(Job(status="RUNNING"), answers={GET: [answer]}) as agent:
        connect(agent, extra={"read_timeout": 0.3})
        deferral(job_missing_timeout=3, agent_unreachable_timeout=3)
        assert len(agent.requests) == 1


@pytest.mark.parametrize("answer", [Refuse(404), Play(Silence())], ids=named)
def test_the_timeout_covers_the_first_look(answer: Step, connect: Connect) -> None:
    with ScriptedAgent(Job(status="RUNNING"), answers={GET: [answer]}) as agent:
        connect(agent, extra={"read_timeout": 0.2})
        with pytest.raises(RayAgentJobTimeoutError, match=r"timeout of 0\.4 seconds; its status is unknown"):
            run_deferred(timeout=0.4, job_missing_timeout=3, agent_unreachable_timeout=3, poke_interval=0.5)


def test_the_details_come_from_the_agent_and_not_from_the_event(connect: Connect) -> None:
    details = {"metadata": {"who": "me"}, "runtime_env": {"env_vars": {"KEY": "job-s3cret"}}}
    with ScriptedAgent(Job("a\n", "SUCCEEDED", details=details)) as agent:
        connect(agent)
        result = resume("execute_complete", event())
    assert (result["status"], result["metadata"]) == ("SUCCEEDED", {"who": "me"})
    assert "s3cret" not in str(result)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("answer", [Refuse(503), Refuse(404), "another status"], ids=str)
def test_the_outcome_stays_what_was_seen_where_the_details_cannot_be_had(
    status: str, answer: Any, connect: Connect
) -> None:
    ti = TaskInstance()
    answers = {} if isinstance(answer, str) else {GET: [answer]}
    with ScriptedAgent(Job(status="STOPPED"), answers=answers) as agent, task_log() as log:
        connect(agent)
        if status == "FAILED":
            with pytest.raises(RayAgentJobFailedError, match="Job j1 ended as FAILED"):
                resume("execute_complete", event(status), make_context(ti))
            assert (ti.xcoms["return_value"]["status"], ti.xcoms["return_value"]["job_id"]) == (status, "j1")
        else:
            assert resume("execute_complete", event(status), make_context(ti))["status"] == status
    assert len(log.warnings) == 1


@pytest.mark.parametrize("broken", [None, {}, {"end": "boom"}, "x"])
@pytest.mark.parametrize("option", [{}, {"soft_fail": True}])
def test_an_event_that_is_not_ours_is_an_error_and_no_skip(
    broken: Any, option: dict[str, Any], connect: Connect
) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        with pytest.raises(RayAgentResponseError, match="event is not one of"):
            resume("execute_complete", {"event": broken}, **option)


@needs_xcoms
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_the_last_lines_of_a_failure_are_repeated_where_the_worker_logs(
    status: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch)
    text = "".join(f"line {number}\n" for number in range(40)) + f"token {TOKEN}\n::group::x\n"
    job = Job(text, "RUNNING", timeline=[Sleep(0.2), SetStatus(status)])
    with ScriptedAgent(job) as agent:
        connect(agent)
        told = event_of(ti, deferral(ti, poke_interval=0.5))
        with task_log() as log:
            if status == "SUCCEEDED":
                resume("execute_complete", {"event": told}, make_context(ti))
            else:
                with pytest.raises(RayAgentJobFailedError):
                    resume("execute_complete", {"event": told}, make_context(ti))
    repeated = [message for message in log.messages if "line 39" in message]
    assert len(repeated) == (status == "FAILED")
    for message in repeated:
        assert message.startswith("The last lines of job j1:\n")
        assert "line 20" not in message.split("\n")
        assert TOKEN not in message
        assert "::group::" not in message
    assert any("has read 42 lines" in message for message in log.messages)
    assert TOKEN not in str(ti.xcoms)


def test_a_deferral_that_no_triggerer_ended_is_looked_at_once_more(connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobTimeoutError, match=f"timeout of {PATIENCE:g} seconds; its status is RUNNING"):
            resume(FAIL, TIMED_OUT)
        assert [request.route for request in agent.requests] == [GET]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_ended_without_a_triggerer_is_no_timeout(status: str, connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status)) as agent, task_log() as log:
        connect(agent)
        if status == "FAILED":
            with pytest.raises(RayAgentJobFailedError):
                resume(FAIL, TIMED_OUT)
        else:
            assert resume(FAIL, TIMED_OUT)["status"] == status
    assert log.lines_of("a\n") == ["a"]


@needs_xcoms
def test_what_a_triggerer_wrote_before_it_went_is_not_written_again_at_the_timeout(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervisor = supervise(ti, monkeypatch)
    job = Job("a\nb\n", "RUNNING", ws=[DEFAULT])
    timeout = 0.6
    with ScriptedAgent(job) as agent:
        connect(agent)
        # On a busy machine the time may be up before the position is saved.
        while supervisor.saved_lines < 2:
            assert event_of(ti, deferral(ti, timeout=timeout))["end"] == "timed out"
            timeout *= 2
        job.grow("c\n")
        job.set_status("SUCCEEDED")
        with task_log() as log:
            assert resume(FAIL, TIMED_OUT, make_context(ti))["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\nc\n") == ["c"]


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_deferral_that_timed_out_is_skipped_as_a_timeout_in_the_worker_is(option: str, connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent, task_log() as log:
        connect(agent)
        with pytest.raises(AirflowSkipException):
            resume(FAIL, TIMED_OUT, **{option: True})
    assert any("did not end within the timeout" in message for message in log.messages)


@pytest.mark.parametrize(
    ("option", "error"),
    [({}, TaskDeferralError), ({"soft_fail": True}, TaskDeferralError), ({"never_fail": True}, AirflowSkipException)],
)
def test_a_trigger_that_crashed_is_an_error_that_only_never_fail_skips(
    option: dict[str, Any], error: type[Exception], connect: Connect
) -> None:
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent:
        connect(agent)
        with pytest.raises(error):
            resume(FAIL, CRASHED, **option)


@pytest.mark.parametrize(
    ("next_method", "next_kwargs"), [("execute_complete", event("RUNNING", "timed out")), (FAIL, TIMED_OUT)]
)
@pytest.mark.parametrize(("seconds", "name"), [(9, "execution_timeout of 9"), (9_000, f"timeout of {PATIENCE:g}")])
def test_the_timeout_that_was_shorter_is_the_one_that_ends_the_task(
    next_method: str, next_kwargs: dict[str, Any], seconds: int, name: str, connect: Connect
) -> None:
    error: type[BaseException] = AirflowTaskTimeout if seconds == 9 else RayAgentJobTimeoutError
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent:
        connect(agent)
        with pytest.raises(error, match=f"within the {name} seconds; its status is RUNNING"):
            resume(next_method, next_kwargs, execution_timeout=timedelta(seconds=seconds))


@needs_xcoms
@pytest.mark.parametrize(("resume_log", "second"), [(True, ["c"]), (False, ["a", "b", "c"])])
def test_a_new_try_goes_on_in_the_log_only_where_that_is_wanted(
    resume_log: bool, second: list[str], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore()
    job = Job("a\nb\n", "RUNNING")

    def lines_of_a_try(try_number: int, **arguments: Any) -> list[str]:
        ti = TaskInstance(try_number)
        supervise(ti, monkeypatch)
        with task_log() as log, contextlib.suppress(RayAgentJobTimeoutError):
            run_deferred(
                context=make_context(ti, task_state_store=store),
                poke_interval=0.5,
                resume_log=resume_log,
                **arguments,
            )
        return log.lines_of("a\nb\nc\n")

    with ScriptedAgent(job) as agent:
        connect(agent)
        assert ["a", "b"] in (lines_of_a_try(1, timeout=timeout) for timeout in GROWING_TIMEOUTS)
        job.grow("c\n")
        job.timeline = [Sleep(0.3), SetStatus("SUCCEEDED")]
        assert lines_of_a_try(2) == second
    assert (log_position.KEY in store) is resume_log


def test_a_run_without_a_supervisor_as_dag_test_does_it_ends_as_any_other(connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", "RUNNING", timeline=[Sleep(0.2), SetStatus("SUCCEEDED")])) as agent:
        connect(agent)
        told = event_of(None, deferral(poke_interval=0.5))
        ti = TaskInstance()
        assert resume("execute_complete", {"event": told}, make_context(ti))["status"] == "SUCCEEDED"
    assert POSITION_KEY not in ti.xcoms
