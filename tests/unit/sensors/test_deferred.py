"""``deferrable=True``: a look, one deferral, and the conclusion in a worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowTaskTimeout,
)

from airflow_provider_rayagent.exceptions import (
    RayAgentJobTimeoutError,
)
from airflow_provider_rayagent.position import task_position
from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from tests.scripted import DEFAULT, Job, Play, Refuse, SetStatus, Silence, Sleep
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import event_of
from tests.unit.sensors.factory import deferral, ending_as, make_sensor, resume, run_deferred, run_in_worker
from tests.unit.supervisor import needs_xcoms, supervise
from tests.unit.support import GROWING_TIMEOUTS, TOKEN, StateStore, TaskInstance, make_context, named, task_log

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

ROOT = Path(__file__).resolve().parents[3]
GET = "GET jobs/j1/"
FAIL = "__fail__"
TIMED_OUT = {"error": "Trigger timeout"}


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


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_has_ended_is_handled_without_a_deferral(status: str, serve: Serve, log: TaskLog) -> None:
    ti = TaskInstance()
    serve(Job("a\nb\n", status))
    with ending_as(status):
        assert run_in_worker(ti, deferrable=True)["status"] == status
    if status == "FAILED":
        assert ti.xcoms["return_value"]["status"] == status
    assert log.lines_of("a\nb\n") == ["a", "b"]


@pytest.mark.parametrize("answer", [Refuse(404), Refuse(503), Play(Silence())], ids=named)
def test_where_the_job_cannot_be_seen_at_first_it_is_waited_for_in_the_triggerer(answer: Step, serve: Serve) -> None:
    agent = serve(Job(status="RUNNING"), answers={GET: [answer]}, extra={"read_timeout": 0.3})
    deferral(job_missing_timeout=3, agent_unreachable_timeout=3)
    assert len(agent.requests) == 1


def test_the_details_come_from_the_agent_and_not_from_the_event(serve: Serve) -> None:
    details = {"metadata": {"who": "me"}, "runtime_env": {"env_vars": {"KEY": "job-s3cret"}}}
    serve(Job("a\n", "SUCCEEDED", details=details))
    result = resume("execute_complete", event())
    assert (result["status"], result["metadata"]) == ("SUCCEEDED", {"who": "me"})
    assert "s3cret" not in str(result)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("answer", [Refuse(503), Refuse(404), "another status"], ids=str)
def test_the_outcome_stays_what_was_seen_where_the_details_cannot_be_had(
    status: str, answer: Any, serve: Serve, log: TaskLog
) -> None:
    ti = TaskInstance()
    answers = {} if isinstance(answer, str) else {GET: [answer]}
    serve(Job(status="STOPPED"), answers=answers)
    with ending_as(status):
        assert resume("execute_complete", event(status), make_context(ti))["status"] == status
    if status == "FAILED":
        assert (ti.xcoms["return_value"]["status"], ti.xcoms["return_value"]["job_id"]) == (status, "j1")
    assert len(log.warnings) == 1


@needs_xcoms
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_the_last_lines_of_a_failure_are_repeated_where_the_worker_logs(
    status: str, serve: Serve, ti: TaskInstance
) -> None:
    text = "".join(f"line {number}\n" for number in range(40)) + f"token {TOKEN}\n::group::x\n"
    job = Job(text, "RUNNING", timeline=[Sleep(0.2), SetStatus(status)])
    serve(job)
    told = event_of(ti, deferral(ti, poke_interval=0.5))
    with task_log() as log, ending_as(status):
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


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_ended_without_a_triggerer_is_no_timeout(status: str, serve: Serve, log: TaskLog) -> None:
    serve(Job("a\n", status))
    with ending_as(status):
        assert resume(FAIL, TIMED_OUT)["status"] == status
    assert log.lines_of("a\n") == ["a"]


@needs_xcoms
def test_what_a_triggerer_wrote_before_it_went_is_not_written_again_at_the_timeout(
    serve: Serve, ti: TaskInstance, supervisor: Supervisor
) -> None:
    job = Job("a\nb\n", "RUNNING", ws=[DEFAULT])
    timeout = 0.6
    serve(job)
    # On a busy machine the time may be up before the position is saved.
    while supervisor.saved_lines < 2:
        assert event_of(ti, deferral(ti, timeout=timeout))["end"] == "timed out"
        timeout *= 2
    job.grow("c\n")
    job.set_status("SUCCEEDED")
    with task_log() as log:
        assert resume(FAIL, TIMED_OUT, make_context(ti))["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\nc\n") == ["c"]


@pytest.mark.parametrize(
    ("next_method", "next_kwargs"), [("execute_complete", event("RUNNING", "timed out")), (FAIL, TIMED_OUT)]
)
@pytest.mark.parametrize(("seconds", "name"), [(9, "execution_timeout of 9"), (9_000, f"timeout of {PATIENCE:g}")])
def test_the_timeout_that_was_shorter_is_the_one_that_ends_the_task(
    next_method: str, next_kwargs: dict[str, Any], seconds: int, name: str, serve: Serve
) -> None:
    error: type[BaseException] = AirflowTaskTimeout if seconds == 9 else RayAgentJobTimeoutError
    serve(Job("a\n", status="RUNNING"))
    with pytest.raises(error, match=f"within the {name} seconds; its status is RUNNING"):
        resume(next_method, next_kwargs, execution_timeout=timedelta(seconds=seconds))


@needs_xcoms
def test_a_new_try_forwards_the_log_from_its_first_line(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore()
    job = Job("a\nb\n", "RUNNING")

    def lines_of_a_try(try_number: int, **arguments: Any) -> list[str]:
        ti = TaskInstance(try_number)
        supervise(ti, monkeypatch)
        with task_log() as log, contextlib.suppress(RayAgentJobTimeoutError):
            run_deferred(
                context=make_context(ti, task_state_store=store),
                poke_interval=0.5,
                **arguments,
            )
        return log.lines_of("a\nb\nc\n")

    serve(job)
    assert ["a", "b"] in (lines_of_a_try(1, timeout=timeout) for timeout in GROWING_TIMEOUTS)
    job.grow("c\n")
    job.timeline = [Sleep(0.3), SetStatus("SUCCEEDED")]
    assert lines_of_a_try(2) == ["a", "b", "c"]
    assert task_position.KEY not in store


def test_a_run_without_a_supervisor_as_dag_test_does_it_ends_as_any_other(serve: Serve) -> None:
    serve(Job("a\n", "RUNNING", timeline=[Sleep(0.2), SetStatus("SUCCEEDED")]))
    told = event_of(None, deferral(poke_interval=0.5))
    ti = TaskInstance()
    assert resume("execute_complete", {"event": told}, make_context(ti))["status"] == "SUCCEEDED"
    assert POSITION_KEY not in ti.xcoms
