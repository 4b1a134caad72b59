"""A job that writes nothing: the task log says what runs, and ``stall_timeout`` ends the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity import shared_records
from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentJobStalledError
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.run import silence_watch
from airflow_provider_rayagent.run.job_ids import numbered
from tests.scripted import Answer, Grow, Job, ScriptedAgent, SetStatus, Sleep, WaitFor
from tests.stack.watch import wait_until
from tests.unit.both_ways import both_ways
from tests.unit.clusters import rows
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator
from tests.unit.sensors.factory import make_sensor
from tests.unit.support import StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from tests.scripted import Request
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve

TASKS, NODES = "GET tasks/", "GET nodes"
DRIVER = {"job_id": "02000000", "metadata": ORIGIN}
HUNG = {
    "task_id": "ab" * 24,
    "attempt_number": 0,
    "name": "load_block",
    "type": "NORMAL_TASK",
    "state": "RUNNING",
    "job_id": "02000000",
    "node_id": "cd" * 28,
    "worker_pid": 812,
    "start_time_ms": 1_796_212_800_000,
}

run = both_ways(make_operator)
run_sensor = both_ways(make_sensor)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SETTLE_SECONDS", "APART_SECONDS"):
        monkeypatch.setattr(silence_watch, name, 0.1)
    monkeypatch.setattr(shared_records, "KEPT_SECONDS", 0.0)


@pytest.fixture
def cluster(ray: ScriptedAgent) -> ScriptedAgent:
    """A Ray whose only job has one task, which hangs."""
    ray.answers[TASKS] = [rows(HUNG)]
    ray.answers[NODES] = [executed(3)]
    return ray


def executed(count: int) -> Answer:
    worker = {"jobId": "02000000", "workerId": "w", "numExecutedTasks": count}
    return Answer(200, {"data": {"summary": [{"raylet": {"coreWorkersStats": [worker]}}]}})


def looks(agent: ScriptedAgent) -> int:
    return sum("RUNNING" in request.query for request in agent.of("GET"))


def test_what_runs_is_told_and_the_job_goes_on(run: Run, cluster: ScriptedAgent) -> None:
    timeline = [WaitFor(lambda: looks(cluster) > 2), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_after=0.3)["status"] == "SUCCEEDED"
    first = log.messages.index(next(message for message in log.messages if "has written nothing for" in message))
    assert log.messages[first].endswith(". What runs:")
    assert log.messages[first + 1] == "  1 task load_block, since 2026-12-02 12:00:00 UTC, on node cdcdcdcd"


@pytest.mark.parametrize("after", [None, 0.2])
def test_a_stalled_job_is_stopped_and_the_next_try_starts_another_one(
    after: float | None, run: Run, cluster: ScriptedAgent
) -> None:
    store: dict[str, Any] = {"task_state_store": StateStore()}
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=())]
    with task_log() as log, pytest.raises(RayAgentJobStalledError) as raised:
        run(context=make_context(**store), stall_after=after, stall_timeout=1.0)
    assert str(raised.value) == (
        f"RA-113: Job {ROOT} has stalled: within the stall_timeout of 1 second it has written nothing, and none of its "
        "tasks has started or ended. What ran at last: 1 task load_block, since 2026-12-02 12:00:00 UTC, on node "
        "cdcdcdcd; its program (process 4242 on node abababab)."
    )
    assert raised.value.failure_kind is FailureKind.STALLED
    wait_until(lambda: cluster.jobs[ROOT].status == "STOPPED" or None, "the job is not stopped")
    assert any("The task's stall_timeout has expired" in message for message in log.messages)
    cluster.answers[SUBMIT] = [starting(cluster)]
    run(context=make_context(TaskInstance(2), **store))
    assert list(cluster.jobs) == [ROOT, numbered(ROOT, 2)]


def test_a_job_that_has_succeeded_meanwhile_has_not_stalled(run: Run, cluster: ScriptedAgent) -> None:
    # The status is checked rarely, so that only the last check finds the end.
    timeline = [WaitFor(lambda: looks(cluster) > 0), Grow("the end\n"), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_timeout=0.4, poll_interval=60.0)["status"] == "SUCCEEDED"
    assert "the end" in log.messages


def test_dots_without_a_newline_are_a_sign_of_life(run: Run, cluster: ScriptedAgent) -> None:
    # On a busy machine, the log is read seconds later.
    timeline = [*[step for _ in range(30) for step in (Grow("."), Sleep(0.3))], SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_after=6.0, stall_timeout=6.0)["status"] == "SUCCEEDED"
    assert not any("has written nothing" in message for message in log.messages)


def test_attempts_that_change_are_a_sign_of_life(run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[TASKS] = [rows({**HUNG, "attempt_number": number}) for number in range(1_000)]
    timeline = [WaitFor(lambda: looks(cluster) > 4), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_after=None, stall_timeout=0.5)["status"] == "SUCCEEDED"
    assert not any("has written nothing" in message for message in log.messages)


def test_tasks_that_are_too_short_to_be_listed_are_a_sign_of_life(run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[TASKS], cluster.answers[NODES] = [rows()], [executed(number) for number in range(1_000)]
    timeline = [WaitFor(lambda: looks(cluster) > 4), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_after=0.3, stall_timeout=0.5)["status"] == "SUCCEEDED"
    assert not any("has written nothing" in message for message in log.messages)


@pytest.mark.parametrize("answer", [Answer(500, "busy"), Answer(200, {"data": None}), Answer(404, "404: Not Found")])
def test_a_look_that_tells_nothing_fails_no_task(answer: Answer, run: Run, cluster: ScriptedAgent) -> None:
    cluster.answers[TASKS] = [answer]
    timeline = [WaitFor(lambda: looks(cluster) > 4), SetStatus("SUCCEEDED")]
    cluster.answers[SUBMIT] = [starting(cluster, details=DRIVER, timeline=timeline)]
    with task_log() as log:
        assert run(stall_after=0.2, stall_timeout=0.2)["status"] == "SUCCEEDED"
    assert any(message.startswith("  not known: ") for message in log.messages)


def test_a_sensor_fails_and_keeps_the_job(run_sensor: Run, serve: Serve) -> None:
    def agent_tasks(request: Request) -> Answer:
        return Answer(200, [HUNG] if "RUNNING" in request.query else [])

    agent = serve(Job("epoch 1\n", "RUNNING", "job-1", details=DRIVER))
    agent.answers[TASKS] = [agent_tasks]
    with pytest.raises(RayAgentJobStalledError, match="What ran at last: 1 task load_block, since "):
        run_sensor(job_id="job-1", stall_timeout=0.5)
    assert agent.jobs["job-1"].status == "RUNNING"
    assert not [request for request in agent.of("POST") if "stop" in request.path]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"stall_after": 0}, "stall_after must be a number of seconds"),
        ({"stall_timeout": "soon"}, "stall_timeout must be a number of seconds"),
        ({"stall_stacks": "yes"}, "Unknown stall_stacks 'yes': use one of None, True, False"),
        (
            {"stall_timeout": 60, "forward_logs": False, "read_result": False, "read_messages": False},
            "stall_timeout requires that the job's log is read: set forward_logs, read_result or read_messages",
        ),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: str) -> None:
    with pytest.raises(RayAgentInputError, match=error):
        make_operator(**options)


def test_a_sensor_that_is_rescheduled_has_no_stall_timeout() -> None:
    with pytest.raises(RayAgentInputError, match="use deferrable=True or mode='poke'"):
        make_sensor(mode="reschedule", stall_timeout=60)
    assert make_sensor(mode="reschedule", deferrable=True, stall_timeout=60).stall_timeout == 60
