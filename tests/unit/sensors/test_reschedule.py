"""``mode="reschedule"``: a look at a time, the slot free between looks, and no line twice."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_provider_rayagent.position import task_position
from tests.scripted import Html, Job, Refuse
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import ending_as, make_sensor, run_in_worker
from tests.unit.support import StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from tests.unit.support import Serve, TaskLog


OF_TRY = {"try_number": 1, "job_id": "j1"}


def look(store: StateStore | None, ti: TaskInstance | None = None, **overrides: Any) -> Any:
    """Look once, in a process of its own as it were; return the result, ``None`` if it is to be called again."""
    context = make_context(ti) if store is None else make_context(ti, task_state_store=store)
    context["task_reschedule_count"] = int(bool(store))
    try:
        return run_in_worker(context=context, **{"mode": "reschedule", **overrides})
    except AirflowRescheduleException:
        return None


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
@pytest.mark.parametrize("forward_logs", [True, False])
def test_a_look_at_a_job_that_has_ended_is_the_last(forward_logs: bool, status: str, serve: Serve) -> None:
    ti = TaskInstance()
    agent = serve(Job("a\n", status))
    with ending_as(status):
        look(None, ti, forward_logs=forward_logs)
    assert ti.xcoms["return_value"]["status"] == status
    # What the agent knows about the failure is asked for in any case.
    routes = {request.route for request in agent.requests} - {"GET nodes/", "GET tasks/"}
    assert (routes == {"GET jobs/j1/"}) is not forward_logs


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_each_look_forwards_what_is_new_and_no_line_twice(status: str, serve: Serve) -> None:
    store = StateStore()
    job = Job(status="PENDING")
    running = ["a\nb\n", "", "c\nhalf", " line\n\nd\n"]
    steps = [("", "PENDING"), *((text, "RUNNING") for text in running)]
    told = []
    agent = serve(job)
    for text, now in steps:
        job.grow(text)
        job.set_status(now)
        agent.requests.clear()
        with task_log() as log:
            assert look(store) is None
        told.append(log.lines_of(job.truth()))
        assert {request.route for request in agent.requests} <= {"GET jobs/j1/", "GET jobs/j1/logs/"}
        assert json.loads(json.dumps(store)) == store
    job.grow("e\nend")
    job.set_status(status)
    with task_log() as log, ending_as(status):
        assert look(store)["status"] == status
    told.append(log.lines_of(job.truth()))
    assert told == [[], ["a", "b"], [], ["c"], ["half line", "", "d"], ["e", "end"]]


def test_without_a_store_the_log_comes_once_when_the_job_has_ended(serve: Serve, log: TaskLog) -> None:
    job = Job("a\n", status="RUNNING")
    agent = serve(job)
    assert look(None) is None
    job.grow("b\n")
    assert look(None) is None
    assert log.lines_of("a\nb\n") == []
    assert {request.route for request in agent.requests} == {"GET jobs/j1/"}
    job.set_status("SUCCEEDED")
    assert look(None)["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\n") == ["a", "b"]


def test_the_looks_count_the_lines_together(serve: Serve, log: TaskLog) -> None:
    store, lines = StateStore(), [f"line {number}" for number in range(40)]
    job = Job("".join(f"{line}\n" for line in lines[:20]), "RUNNING")
    serve(job)
    for _ in range(2):
        look(store, max_lines=10)
    job.grow("".join(f"{line}\n" for line in lines[20:]))
    job.set_status("SUCCEEDED")
    look(store, max_lines=10)
    assert [message for message in log.messages if message in lines] == lines[:10]
    told = [message for message in log.messages if "(max_lines)" in message]
    assert told[0] == "Showing only the first 10 lines of the job's log (max_lines)."
    assert told[1].startswith("Only the first 10 lines of the job's log are shown here (max_lines). It has 40;")
    assert len(told) == 2


def test_another_try_forwards_the_log_from_its_first_line(serve: Serve) -> None:
    store = StateStore()
    told = []
    serve(Job("a\nb\n", status="RUNNING"))
    for try_number in (1, 1, 2, 2):
        with task_log() as log:
            assert look(store, TaskInstance(try_number)) is None
        told.append(log.lines_of("a\nb\n"))
    assert told == [["a", "b"], [], ["a", "b"], []]


@pytest.mark.parametrize("saved", [None, "x", [], {}, OF_TRY, {**OF_TRY, "position": {}}, {**OF_TRY, "position": "x"}])
def test_a_place_that_cannot_be_read_means_the_first_line(saved: Any, serve: Serve, log: TaskLog) -> None:
    store = StateStore({task_position.KEY: saved})
    serve(Job("a\n", status="RUNNING"))
    assert look(store) is None
    assert log.lines_of("a\n") == ["a"]


def test_a_log_that_cannot_be_read_at_one_look_is_read_at_the_next(serve: Serve) -> None:
    store = StateStore()
    job = Job("a\nb\n", status="RUNNING", full=[Html(502), Refuse(500)])
    serve(job)
    with task_log() as log:
        assert look(store) is None
    assert log.lines_of("a\nb\n") == []
    job.full = []
    with task_log() as log:
        assert look(store) is None
    assert log.lines_of("a\nb\n") == ["a", "b"]


def test_the_look_after_the_timeout_still_sees_the_end(serve: Serve) -> None:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=PATIENCE + 1))
    serve(Job("a\n", status="SUCCEEDED"))
    assert look(StateStore(), ti)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_what_skips_a_failure_does_not_skip_a_job_that_goes_on(option: str, serve: Serve, log: TaskLog) -> None:
    serve(Job("a\n", status="RUNNING"))
    assert look(StateStore(), None, **{option: True}) is None
    assert "" not in log.messages


@pytest.mark.parametrize(
    ("arguments", "interval", "deferred"),
    [
        ({}, 5, 5),
        ({"mode": "reschedule"}, 60, 5),
        ({"mode": "reschedule", "poke_interval": 7}, 7, 7),
        ({"poke_interval": timedelta(minutes=2)}, 120, 120),
    ],
)
def test_the_default_interval_depends_on_the_mode(arguments: dict[str, Any], interval: float, deferred: float) -> None:
    assert make_sensor(**arguments).poke_interval == interval
    assert make_sensor(deferrable=True, **arguments).poke_interval == deferred
