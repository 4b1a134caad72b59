"""``stop_job_on_kill`` in a worker: the job is stopped only if that is wanted, and only where the task is over."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time import timeout as airflows

from airflow_provider_rayagent.exceptions import RayAgentJobFailedError, RayAgentJobTimeoutError
from airflow_provider_rayagent.task_instance import stopping
from airflow_provider_rayagent.tasks import stopper
from airflow_provider_rayagent.tasks.stopper import HANDLER_SECONDS
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from airflow_provider_rayagent.transport import blocking_driver
from tests.scripted import (
    Do,
    Follow,
    Hold,
    Job,
    Play,
    Refuse,
    ScriptedAgent,
    SetStatus,
    Silence,
    WaitFor,
    WaitForStream,
)
from tests.stack.watch import PATIENCE
from tests.unit.sensors.deferral import resume
from tests.unit.sensors.factory import make_sensor
from tests.unit.supervisor import supervise
from tests.unit.support import LoopTaskInstance, TaskInstance, make_context, task_log
from tests.unit.triggers.sink import logging_to
from tests.unit.triggers.test_kill import ENDED_BY_A_USER, GOES_ON, STOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
    from tests.scripted import Step
    from tests.unit.support import Connect


@pytest.fixture(autouse=True)
def _looks_up_often_and_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_driver, "SLICE_SECONDS", 0.1)
    monkeypatch.setattr(stopper, "KILL_SECONDS", PATIENCE)


def make_job() -> Job:
    return Job("a\n", "RUNNING", ws=[Play(Follow(), Hold())])


@contextmanager
def killing(sensor: RayAgentJobSensor) -> Iterator[list[float]]:
    """Have a signal kill the sensor meanwhile, as Airflow does; give the seconds that its handler took."""
    took: list[float] = []

    def on_signal(*_: object) -> None:
        begun = time.monotonic()
        sensor.on_kill()
        took.append(time.monotonic() - begun)

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        yield took
    finally:
        signal.signal(signal.SIGUSR1, before)


def send_signal(number: signal.Signals = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), number)


def killed(agent: ScriptedAgent, ti: TaskInstance, **overrides: Any) -> float:
    """Run a sensor until a signal kills it as it waits; return the seconds that the signal's handler took."""
    sensor = make_sensor(**{"stop_job_on_kill": True, "poke_interval": PATIENCE, **overrides})
    agent.jobs["j1"].timeline = [WaitForStream(), Do(send_signal)]
    with killing(sensor) as took:
        assert sensor.poke(make_context(ti)) is False
    return took[0]


class KillingOutput(io.BytesIO):
    """A log into which a signal comes in the middle of a write, whose lock is held then."""

    def write(self, data: Any) -> int:
        if b"the fatal line" in data:
            send_signal()
        return super().write(data)


@pytest.mark.parametrize("state", ENDED_BY_A_USER[:4])
def test_a_task_that_is_ended_from_outside_stops_the_job_once(
    state: str | None, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = state
    job = make_job()
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        killed(agent, ti)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert job.stop_calls == 1
    assert any("Stop of job j1 requested" in message for message in log.messages)


@pytest.mark.parametrize("state", GOES_ON)
def test_a_task_that_goes_on_leaves_the_job_alone(
    state: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = state
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        killed(agent, ti)
    assert job.stop_calls == 0


@pytest.mark.parametrize(
    ("newest", "ended", "stops"),
    [
        ("running", "failed", 1),
        ("deferred", "success", 1),
        ("restarting", None, 1),
        ("success", None, 0),
        ("scheduled", None, 0),
        (None, None, 0),
    ],
)
def test_in_a_loop_the_iterations_own_end_counts_and_not_the_state_of_the_newest(
    newest: str | None, ended: str | None, stops: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance(region_index=1)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = newest
    supervisor.ended = [listed(ti, region_index=0), listed(ti, region_id=str(uuid4())), listed(ti, task_id="another")]
    if ended:
        supervisor.ended.append(listed(ti, state=ended))
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        killed(agent, ti)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert job.stop_calls == stops


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize("sign", ["dropped", "restarting"])
def test_an_iteration_whose_place_another_one_has_taken_stops_its_job(
    sign: str, conflict: bool, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance(region_index=1)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state, supervisor.conflict = "running", conflict
    setattr(supervisor, sign, True)
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        killed(agent, ti)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert job.stop_calls == 1


def listed(ti: TaskInstance, **other: Any) -> dict[str, Any]:
    """Return what Airflow tells of a task instance that has ended."""
    found = {"task_id": ti.task_id, "map_index": ti.map_index, "state": "failed", "region_id": str(ti.region_id)}
    return {**found, "region_index": ti.region_index, **other}


def test_by_default_the_job_is_left_alone_and_nothing_is_asked(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = "failed"
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        killed(agent, ti, stop_job_on_kill=False)
    assert job.stop_calls == 0
    assert "GetTaskStates" not in supervisor.asked


@pytest.mark.parametrize("answer", [Refuse(500, "no luck"), Play(Silence())])
def test_a_stop_that_fails_is_said_and_does_not_hold_the_task_up(
    answer: Step, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    monkeypatch.setattr(stopping, "KILL_READ_SECONDS", 0.3)
    with ScriptedAgent(make_job(), answers={STOP: [answer]}) as agent, task_log() as log:
        connect(agent, extra={"read_timeout": MAX_TIMEOUT})
        assert killed(agent, ti) < MAX_TIMEOUT
        assert len(agent.of(STOP)) == 1
    assert any("Failed to stop job" in message for message in log.messages)


def test_airflow_that_does_not_answer_does_not_hold_the_task_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(stopping, "task_state", lambda _, **__: answered.wait() and None)
    monkeypatch.setattr(stopper, "KILL_SECONDS", 0.3)
    with ScriptedAgent(make_job()) as agent:
        connect(agent)
        assert killed(agent, TaskInstance()) < PATIENCE
        answered.set()
        agent.wait_until(lambda: agent.of(STOP))


def test_a_signal_in_the_middle_of_a_write_to_the_log_does_not_hold_the_stop_up(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    job = Job("the fatal line\n", "RUNNING", ws=[Play(Follow(), Hold())])
    with ScriptedAgent(job) as agent, logging_to(KillingOutput()):
        connect(agent)
        sensor = make_sensor(stop_job_on_kill=True, poke_interval=PATIENCE)
        with killing(sensor) as took:
            assert sensor.poke(make_context(ti)) is False
        assert job.stop_calls == 1
    assert took[0] < PATIENCE - HANDLER_SECONDS


def test_a_second_signal_stops_nothing_again(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstance()
    supervise(ti, monkeypatch).state = "failed"
    with ScriptedAgent(make_job()) as agent:
        connect(agent)
        sensor = make_sensor(stop_job_on_kill=True, timeout=0)
        with pytest.raises(RayAgentJobTimeoutError):
            sensor.poke(make_context(ti))
        for _ in range(3):
            sensor.on_kill()
        assert len(agent.of(STOP)) == 1


def test_a_kill_before_anything_has_begun_is_no_error() -> None:
    make_sensor(stop_job_on_kill=True).on_kill()


def in_worker(**overrides: Any) -> Any:
    return make_sensor(poke_interval=60, **overrides).execute(make_context())


def deferred(**overrides: Any) -> Any:
    return resume("execute_complete", {"event": {"end": "timed out", "status": "RUNNING", "error": None}}, **overrides)


def without_triggerer(**overrides: Any) -> Any:
    return resume("__fail__", {"error": "Trigger timeout"}, **overrides)


@pytest.mark.parametrize("way", [in_worker, deferred, without_triggerer])
@pytest.mark.parametrize("owns", [True, False])
def test_a_timeout_stops_the_job_if_that_is_wanted(way: Callable[..., Any], owns: bool, connect: Connect) -> None:
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobTimeoutError):
            way(timeout=0.3, stop_job_on_kill=owns)
    assert job.stop_calls == owns


@pytest.mark.parametrize("way", [deferred, without_triggerer])
@pytest.mark.parametrize("owns", [True, False])
def test_so_does_an_execution_timeout_that_came_while_the_task_was_deferred(
    way: Callable[..., Any], owns: bool, connect: Connect
) -> None:
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        with pytest.raises(AirflowTaskTimeout):
            way(execution_timeout=timedelta(seconds=5), stop_job_on_kill=owns)
    assert job.stop_calls == owns


def end_of_execution_timeout() -> None:
    """Send the signal of Airflow's timer."""
    send_signal(signal.SIGALRM)


@pytest.mark.parametrize("owns", [True, False])
def test_so_does_an_execution_timeout_in_the_worker(owns: bool, connect: Connect) -> None:
    job = make_job()
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        job.timeline = [WaitFor(lambda: "a" in log.messages), Do(end_of_execution_timeout)]
        ends: Any = airflows.timeout
        with pytest.raises(AirflowTaskTimeout), ends(PATIENCE):
            in_worker(stop_job_on_kill=owns)
        agent.wait_until(lambda: agent.open_connections == 0)
    assert job.stop_calls == owns


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_job_that_had_ended_when_the_execution_timeout_came_decides_the_outcome(
    status: str, connect: Connect
) -> None:
    # The worker sleeps between two looks at the status when Airflow's alarm comes.
    job = make_job()
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        job.timeline = [WaitFor(lambda: "a" in log.messages), SetStatus(status), Do(end_of_execution_timeout)]
        ends: Any = airflows.timeout
        with ends(PATIENCE):
            if status == "SUCCEEDED":
                assert in_worker(stop_job_on_kill=True)["status"] == status
            else:
                with pytest.raises(RayAgentJobFailedError):
                    in_worker(stop_job_on_kill=True)
    assert job.stop_calls == 0
    assert log.lines_of("a\n") == ["a"]


@pytest.mark.parametrize("owns", [True, False])
@pytest.mark.parametrize("soft_fail", [True, False])
def test_a_timeout_between_two_looks_stops_the_job_if_that_is_wanted(
    owns: bool, soft_fail: bool, connect: Connect
) -> None:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=PATIENCE + 1))
    job = make_job()
    with ScriptedAgent(job) as agent:
        connect(agent)
        sensor = make_sensor(mode="reschedule", stop_job_on_kill=owns, soft_fail=soft_fail)
        with pytest.raises(AirflowSkipException if soft_fail else RayAgentJobTimeoutError):
            sensor.execute(make_context(ti))
    assert job.stop_calls == owns


def test_a_job_that_ended_by_itself_is_not_stopped(connect: Connect) -> None:
    job = Job("a\n", "FAILED")
    with ScriptedAgent(job) as agent:
        connect(agent)
        with pytest.raises(RayAgentJobFailedError):
            in_worker(stop_job_on_kill=True)
    assert job.stop_calls == 0


def test_a_stop_that_fails_at_the_timeout_leaves_the_timeout_the_error(connect: Connect) -> None:
    with ScriptedAgent(make_job(), answers={STOP: [Refuse(500)]}) as agent, task_log() as log:
        connect(agent)
        with pytest.raises(RayAgentJobTimeoutError):
            deferred(stop_job_on_kill=True)
    assert any("Failed to stop job" in message for message in log.messages)
