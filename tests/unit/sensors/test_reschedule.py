"""``mode="reschedule"``: a look at a time, the slot free between looks, and no line twice."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError
from airflow_provider_rayagent.task_instance import resuming
from airflow_provider_rayagent.tasks import log_position
from tests.scripted import Html, Job, Refuse, ScriptedAgent
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import make_sensor, run
from tests.unit.support import StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from tests.unit.support import Connect


def look(store: StateStore | None, ti: TaskInstance | None = None, **overrides: Any) -> Any:
    """Look once, in a process of its own as it were; return the result, ``None`` if it is to be called again."""
    context = make_context(ti) if store is None else make_context(ti, task_state_store=store)
    try:
        return run(context=context, **{"mode": "reschedule", **overrides})
    except AirflowRescheduleException:
        return None


def test_a_look_frees_the_slot_and_comes_back_after_the_interval(connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent:
        connect(agent)
        before = datetime.now(tz=timezone.utc)
        with pytest.raises(AirflowRescheduleException) as caught:
            run(context=make_context(task_state_store=StateStore()), mode="reschedule", poke_interval=90)
        after = datetime.now(tz=timezone.utc)
        assert before + timedelta(seconds=89) < caught.value.reschedule_date < after + timedelta(seconds=91)
        assert [request.route for request in agent.requests] == ["GET jobs/j1/", "GET jobs/j1/logs/"]
        agent.wait_until(lambda: agent.open_connections == 0)


def test_a_look_comes_back_no_sooner_than_airflow_can_handle(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "seconds_to_resume", lambda: 77)
    with ScriptedAgent(Job("a\n", "RUNNING")) as agent:
        connect(agent)
        before = datetime.now(tz=timezone.utc)
        with pytest.raises(AirflowRescheduleException) as caught:
            run(context=make_context(task_state_store=StateStore()), mode="reschedule", poke_interval=0.1)
        assert caught.value.reschedule_date - before >= timedelta(seconds=76)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_each_look_forwards_what_is_new_and_no_line_twice(status: str, connect: Connect) -> None:
    store = StateStore()
    job = Job(status="PENDING")
    running = ["a\nb\n", "", "c\nhalf", " line\n\nd\n"]
    steps = [("", "PENDING"), *((text, "RUNNING") for text in running)]
    told = []
    with ScriptedAgent(job) as agent:
        connect(agent)
        for text, now in steps:
            job.grow(text)
            job.set_status(now)
            with task_log() as log:
                assert look(store) is None
            told.append(log.lines_of(job.truth()))
            assert json.loads(json.dumps(store)) == store
        job.grow("e\nend")
        job.set_status(status)
        with task_log() as log:
            if status == "FAILED":
                with pytest.raises(RayAgentJobFailedError):
                    look(store)
            else:
                assert look(store)["status"] == "SUCCEEDED"
        told.append(log.lines_of(job.truth()))
    assert told == [[], ["a", "b"], [], ["c"], ["half line", "", "d"], ["e", "end"]]


def test_without_a_store_the_log_comes_once_when_the_job_has_ended(connect: Connect) -> None:
    job = Job("a\n", status="RUNNING")
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        assert look(None) is None
        job.grow("b\n")
        assert look(None) is None
        assert log.lines_of("a\nb\n") == []
        assert {request.route for request in agent.requests} == {"GET jobs/j1/"}
        job.set_status("SUCCEEDED")
        assert look(None)["status"] == "SUCCEEDED"
        assert log.lines_of("a\nb\n") == ["a", "b"]


def test_another_try_forwards_the_log_from_its_first_line(connect: Connect) -> None:
    store = StateStore()
    told = []
    with ScriptedAgent(Job("a\nb\n", status="RUNNING")) as agent:
        connect(agent)
        for try_number in (1, 1, 2, 2):
            with task_log() as log:
                assert look(store, TaskInstance(try_number)) is None
            told.append(log.lines_of("a\nb\n"))
    assert told == [["a", "b"], [], ["a", "b"], []]


@pytest.mark.parametrize(
    "saved", [None, "x", [], {}, {"try_number": 1}, {"try_number": 1, "cursor": {}}, {"try_number": 1, "cursor": "x"}]
)
def test_a_place_that_cannot_be_read_means_the_first_line(saved: Any, connect: Connect) -> None:
    store = StateStore({log_position.KEY: saved})
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent, task_log() as log:
        connect(agent)
        assert look(store) is None
    assert log.lines_of("a\n") == ["a"]


def test_a_log_that_cannot_be_read_at_one_look_is_read_at_the_next(connect: Connect) -> None:
    store = StateStore()
    job = Job("a\nb\n", status="RUNNING", full=[Html(502), Refuse(500)])
    with ScriptedAgent(job) as agent:
        connect(agent)
        with task_log() as log:
            assert look(store) is None
        assert log.lines_of("a\nb\n") == []
        job.full = []
        with task_log() as log:
            assert look(store) is None
        assert log.lines_of("a\nb\n") == ["a", "b"]


@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_timeout_counts_from_the_first_look(soft_fail: bool, connect: Connect) -> None:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=PATIENCE + 1))
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent:
        connect(agent)
        with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
            look(StateStore(), ti, soft_fail=soft_fail)
        agent.jobs["j1"].set_status("SUCCEEDED")
        assert look(StateStore(), ti)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_what_skips_a_failure_does_not_skip_a_job_that_goes_on(option: str, connect: Connect) -> None:
    with ScriptedAgent(Job("a\n", status="RUNNING")) as agent, task_log() as log:
        connect(agent)
        assert look(StateStore(), None, **{option: True}) is None
        assert "" not in log.messages


def test_the_default_interval_depends_on_the_mode() -> None:
    assert make_sensor().poke_interval == 5
    assert make_sensor(mode="reschedule").poke_interval == 60
    assert make_sensor(mode="reschedule", poke_interval=7).poke_interval == 7
    assert make_sensor(poke_interval=timedelta(minutes=2)).poke_interval == 120
