"""``stop_job_on_kill``: the job is stopped only if that is wanted, and only where the task is over."""

from __future__ import annotations

import io
import signal
import threading
from datetime import datetime, timedelta, timezone
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.execution_time import timeout as airflows

from airflow_provider_rayagent.exceptions import RayAgentJobTimeoutError
from airflow_provider_rayagent.run import stopper
from airflow_provider_rayagent.run.stopper import HANDLER_SECONDS
from airflow_provider_rayagent.task_instance import stopping
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from airflow_provider_rayagent.transport import blocking, blocking_driver
from tests.scripted import Answer, Do, Play, Refuse, SetStatus, Silence, WaitFor, WaitForStream
from tests.stack.watch import PATIENCE
from tests.unit.sensors.factory import ending_as, make_sensor, resume, run_in_worker
from tests.unit.sensors.kills import (
    ENDED_BY_A_USER,
    GOES_ON,
    STOP,
    kill_in_worker,
    kill_trigger,
    killing,
    make_job,
    send_signal,
)
from tests.unit.supervisor import supervise
from tests.unit.support import LoopTaskInstance, TaskInstance, make_context
from tests.unit.triggers.sink import logging_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Step
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Serve, TaskLog

    Kill = Callable[..., Any]


@pytest.fixture(autouse=True)
def _looks_up_often_and_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_driver, "SLICE_SECONDS", 0.1)
    monkeypatch.setattr(stopper, "KILL_SECONDS", PATIENCE)


@pytest.fixture
def kill(way: str) -> Kill:
    """Kill a sensor that waits, or the trigger to which it deferred."""
    return kill_in_worker if way == "worker" else kill_trigger


class KillingOutput(io.BytesIO):
    """A log into which a signal comes in the middle of a write, whose lock is held then."""

    def write(self, data: Any) -> int:
        if b"the fatal line" in data:
            send_signal()
        return super().write(data)


@pytest.mark.parametrize("state", ENDED_BY_A_USER)
def test_a_task_that_is_ended_from_outside_stops_the_job_once(
    state: str | None, kill: Kill, serve: Serve, log: TaskLog, supervisor: Supervisor
) -> None:
    supervisor.state = state
    job = make_job()
    kill(serve(job), supervisor.ti)
    assert job.stop_calls == 1
    assert any("Stop of job j1 requested" in message for message in log.messages)


@pytest.mark.parametrize("state", GOES_ON)
def test_a_task_that_goes_on_leaves_the_job_alone(state: str, kill: Kill, serve: Serve, supervisor: Supervisor) -> None:
    supervisor.state = state
    job = make_job()
    kill(serve(job), supervisor.ti)
    assert job.stop_calls == 0


def test_a_deferred_task_that_was_cleared_and_not_scheduled_again_yet_leaves_the_job_to_its_next_try(
    serve: Serve, supervisor: Supervisor
) -> None:
    supervisor.state, supervisor.archived = None, True
    job = make_job()
    kill_trigger(serve(job), supervisor.ti)
    assert job.stop_calls == 0


def test_by_default_the_job_is_left_alone_and_nothing_is_asked(
    kill: Kill, serve: Serve, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    job = make_job()
    kill(serve(job), supervisor.ti, stop_job_on_kill=False)
    assert job.stop_calls == 0
    assert "GetTaskStates" not in supervisor.asked


@pytest.mark.parametrize("answer", [Refuse(500, "no luck"), Play(Silence())])
def test_a_stop_that_fails_is_said_and_does_not_hold_the_task_up(
    answer: Step, way: str, kill: Kill, serve: Serve, log: TaskLog, supervisor: Supervisor, monkeypatch: Any
) -> None:
    supervisor.state = "failed"
    # In a worker the time is shorter than the connection says.
    monkeypatch.setattr(stopping, "KILL_READ_SECONDS", 0.3)
    read_timeout = MAX_TIMEOUT if way == "worker" else 0.3
    agent = serve(make_job(), answers={STOP: [answer]}, extra={"read_timeout": read_timeout})
    kill(agent, supervisor.ti)
    assert len(agent.of(STOP)) == 1
    assert any("Failed to stop job" in message for message in log.messages)


def test_where_there_is_no_job_any_more_nothing_has_failed(
    kill: Kill, serve: Serve, log: TaskLog, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    kill(serve(make_job(), answers={STOP: [Refuse(404)]}), supervisor.ti)
    about = [message for message in log.messages if "stop" in message]
    words = "The task was ended externally (state: failed); job j1 does not exist, so that nothing is to be stopped."
    assert about == [words]
    assert not log.warnings


@pytest.mark.parametrize("checked", [True, False])
def test_a_check_and_a_stop_have_the_time_of_one_request(
    checked: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Any] = []

    class Recording(blocking.BlockingServiceClient):
        def __init__(self, config: Any) -> None:
            configs.append(config)
            super().__init__(config)

    monkeypatch.setattr(blocking, "BlockingServiceClient", Recording)
    agent = serve(make_job(), extra={"read_timeout": MAX_TIMEOUT, "connect_timeout": MAX_TIMEOUT})
    seen: list[Any] = []
    sensor = make_sensor()
    check = seen.append if checked else None
    assert stopping.stop_job(sensor.hook.config, "j1", sensor.log, "Why", hurry=True, check=check)
    (used,) = configs
    assert len(agent.requests) == 1 + checked
    assert used.connect_timeout == stopping.KILL_CONNECT_SECONDS
    assert len(agent.requests) * used.read_timeout == stopping.KILL_READ_SECONDS


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
    newest: str | None, ended: str | None, stops: int, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(**other: Any) -> dict[str, Any]:
        """Return what Airflow tells of a task instance that has ended."""
        found = {"task_id": ti.task_id, "map_index": ti.map_index, "state": "failed", "region_id": str(ti.region_id)}
        return {**found, "region_index": ti.region_index, **other}

    ti = LoopTaskInstance(region_index=1)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state = newest
    supervisor.ended = [listed(region_index=0), listed(region_id=str(uuid4())), listed(task_id="another")]
    supervisor.ended += [listed(state=ended)] if ended else []
    job = make_job()
    kill_in_worker(serve(job), ti)
    assert job.stop_calls == stops


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize("sign", ["dropped", "restarting"])
def test_an_iteration_whose_place_another_one_has_taken_stops_its_job(
    sign: str, conflict: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = LoopTaskInstance(region_index=1)
    supervisor = supervise(ti, monkeypatch)
    supervisor.state, supervisor.conflict = "running", conflict
    setattr(supervisor, sign, True)
    job = make_job()
    kill_in_worker(serve(job), ti)
    assert job.stop_calls == 1


def test_airflow_that_does_not_answer_does_not_hold_the_task_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(stopping, "task_state", lambda _, **__: answered.wait() and None)
    monkeypatch.setattr(stopper, "KILL_SECONDS", 0.3)
    agent = serve(make_job())
    assert kill_in_worker(agent, TaskInstance()) < PATIENCE
    answered.set()
    agent.wait_until(lambda: agent.of(STOP))


def test_a_signal_in_the_middle_of_a_write_to_the_log_does_not_hold_the_stop_up(
    serve: Serve, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    job = make_job("the fatal line\n")
    serve(job)
    with logging_to(KillingOutput()):
        sensor = make_sensor(stop_job_on_kill=True, poke_interval=PATIENCE)
        with killing(sensor) as took:
            assert sensor.poke(make_context(supervisor.ti)) is False
        assert job.stop_calls == 1
    assert took[0] < PATIENCE - HANDLER_SECONDS


def test_a_log_that_is_locked_for_ever_does_not_keep_the_job_running(serve: Serve, supervisor: Supervisor) -> None:
    """As when Airflow's timer goes off in a write, and its handler logs that: the supervisor ends the process."""

    class StuckOutput(io.BytesIO):
        def write(self, data: Any) -> int:
            if b"the fatal line" in data:
                send_signal()
                agent.wait_until(lambda: job.stop_calls)
            return super().write(data)

    job = make_job("the fatal line\n")
    agent = serve(job)
    with logging_to(StuckOutput()):
        sensor = make_sensor(stop_job_on_kill=True, execution_timeout=timedelta(milliseconds=1))
        with killing(sensor):
            assert sensor.poke(make_context(supervisor.ti)) is False
    assert job.stop_calls == 1


@pytest.mark.parametrize(("seconds", "stops"), [(0.001, 1), (MAX_TIMEOUT, 0)])
def test_a_process_that_is_ended_after_its_execution_timeout_stops_the_job_of_a_running_task(
    seconds: float, stops: int, serve: Serve, log: TaskLog, supervisor: Supervisor
) -> None:
    supervisor.state = "running"
    job = make_job()
    kill_in_worker(serve(job), supervisor.ti, execution_timeout=timedelta(seconds=seconds))
    assert job.stop_calls == stops
    assert ("The task's execution_timeout has expired; stopping job j1." in log.messages) == bool(stops)


def test_the_task_ends_after_the_service_has_answered_the_stop(
    serve: Serve, log: TaskLog, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends with the task, and so does the thread that stops the job."""
    supervisor.state = "failed"
    monkeypatch.setattr(stopper, "HANDLER_SECONDS", 0.0)
    agent = serve(make_job(), answers={STOP: [Answer(body={"stopped": True}, delay=0.5)]})
    agent.jobs["j1"].timeline = [WaitForStream(), Do(send_signal)]
    sensor = make_sensor(stop_job_on_kill=True, poke_interval=PATIENCE)
    with killing(sensor):
        assert sensor.poke(make_context(supervisor.ti)) is False
    assert any("Stop of job j1 requested" in message for message in log.messages)


def test_a_second_signal_stops_nothing_again(serve: Serve, supervisor: Supervisor) -> None:
    supervisor.state = "failed"
    agent = serve(make_job())
    sensor = make_sensor(stop_job_on_kill=True, timeout=0)
    with pytest.raises(RayAgentJobTimeoutError):
        sensor.poke(make_context(supervisor.ti))
    for _ in range(3):
        sensor.on_kill()
    assert len(agent.of(STOP)) == 1


def test_a_task_that_is_killed_before_it_has_begun_follows_nothing_and_stops_its_job(
    serve: Serve, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    agent = serve(make_job())
    sensor = make_sensor(stop_job_on_kill=True, timeout=PATIENCE)
    sensor.on_kill()
    assert sensor.poke(make_context(supervisor.ti)) is False
    assert len(agent.of(STOP)) == 1


def in_worker(**overrides: Any) -> Any:
    return run_in_worker(poke_interval=60, **overrides)


def deferred(**overrides: Any) -> Any:
    return resume("execute_complete", {"event": {"end": "timed out", "status": "RUNNING", "error": None}}, **overrides)


def without_triggerer(**overrides: Any) -> Any:
    return resume("__fail__", {"error": "Trigger timeout"}, **overrides)


def between_two_looks(**overrides: Any) -> Any:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=60))
    return run_in_worker(ti, mode="reschedule", **overrides)


@pytest.mark.parametrize(
    ("process", "options", "error"),
    [
        *product(
            [in_worker, deferred, without_triggerer, between_two_looks],
            [{"timeout": 0.3}],
            [RayAgentJobTimeoutError, AirflowSkipException],
        ),
        # One that came while the task was deferred.
        *product([deferred, without_triggerer], [{"execution_timeout": timedelta(seconds=5)}], [AirflowTaskTimeout]),
    ],
)
@pytest.mark.parametrize("owns", [True, False])
def test_a_timeout_stops_the_job_if_that_is_wanted(
    owns: bool, process: Callable[..., Any], options: dict[str, Any], error: type[BaseException], serve: Serve
) -> None:
    job = make_job()
    serve(job)
    with pytest.raises(error):
        process(stop_job_on_kill=owns, soft_fail=error is AirflowSkipException, **options)
    assert job.stop_calls == owns


def end_of_execution_timeout() -> None:
    """Send the signal of Airflow's timer."""
    send_signal(signal.SIGALRM)


@pytest.mark.parametrize(
    ("status", "owns"), [("RUNNING", True), ("RUNNING", False), ("SUCCEEDED", True), ("FAILED", True)]
)
def test_an_execution_timeout_in_the_worker_does_so_unless_the_job_had_ended(
    status: str, owns: bool, serve: Serve, log: TaskLog
) -> None:
    # The worker sleeps between two looks at the status when Airflow's alarm comes.
    goes_on = status == "RUNNING"
    job = make_job()
    agent = serve(job)
    job.timeline = [WaitFor(lambda: "a" in log.messages), SetStatus(status), Do(end_of_execution_timeout)]
    ends: Any = airflows.timeout
    with pytest.raises(AirflowTaskTimeout) if goes_on else ending_as(status), ends(PATIENCE):
        assert in_worker(stop_job_on_kill=owns)["status"] == status
    agent.wait_until(lambda: agent.open_connections == 0)
    assert job.stop_calls == (goes_on and owns)
    assert log.lines_of("a\n") == ["a"]
    # Airflow logs it.
    assert not [message for message in log.messages if "Timeout, PID" in message]


def test_a_stop_that_fails_at_the_timeout_leaves_the_timeout_the_error(serve: Serve, log: TaskLog) -> None:
    serve(make_job(), answers={STOP: [Refuse(500)]})
    with pytest.raises(RayAgentJobTimeoutError):
        deferred(stop_job_on_kill=True)
    assert any("Failed to stop job" in message for message in log.messages)
