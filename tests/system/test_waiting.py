"""A policy lets tasks without retries wait in a real Airflow: one job, each line once, and the first try succeeds."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.holding import holding_proxy
from tests.system.support import WAITING, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.support import System

retry_policy = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow 3.3")

pytestmark = [
    pytest.mark.each_airflow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not hasattr(retry_policy.RetryAction, "RESCHEDULE"), reason="no waiting before Airflow 3.4"),
]

BEFORE, AFTER = ["line 1", "line 2"], ["line 3", "line 4"]


@pytest.fixture
def start(system: System) -> Callable[..., list[Task]]:
    """Return what starts the tasks, whose jobs wait in the middle of their lines until ``name`` is released."""

    def start(name: str, **conf: Any) -> list[Task]:
        script = system.programs / f"{name}.py"
        lines = [f"print({line!r}, flush=True)" for line in (*BEFORE, *AFTER)]
        release = f"import time\nRELEASE = {str(system.programs / name)!r}"
        script.write_text("\n".join([release, *lines[:2], WAITING, *lines[2:]]), encoding="utf-8")
        first = system.start("system_waiting", "worker", entrypoint=shlex.join([sys.executable, str(script)]), **conf)
        return [first, Task(first.airflow, first.dag_id, first.run_id, "deferred")]

    return start


def test_a_job_for_which_there_is_no_cpu_is_waited_for(system: System, start: Callable[..., list[Task]]) -> None:
    cpus = system.agent.request("GET", "resources/cluster/").json()["cpu"]["total"]
    blocker = system.agent.submit("sleep 3600", entrypoint_num_cpus=cpus - 0.5)
    system.agent.wait(blocker, ["RUNNING"])
    tasks = start("no-cpu", num_cpus=1)
    for task in tasks:
        task.wait_for("up_for_reschedule")
    system.release("no-cpu")
    system.agent.request("POST", f"jobs/{blocker}/stop/")
    assert_succeed(system, tasks)


def test_a_service_that_was_unreachable_is_waited_for(system: System, start: Callable[..., list[Task]]) -> None:
    with holding_proxy(system.agent.url, "/nothing/") as proxy:
        conn_id = system.connect("waiting", host=proxy.url)
        tasks = start("unreachable", conn_id=conn_id)
        for task in tasks:
            task.wait_for_lines(len(BEFORE))
    for task in tasks:
        task.wait_for("up_for_reschedule")
    system.api(
        "PATCH",
        f"connections/{conn_id}?update_mask=host",
        connection_id=conn_id,
        conn_type="rayagent",
        host=system.agent.url,
    )
    system.release("unreachable")
    assert_succeed(system, tasks)


def assert_succeed(system: System, tasks: list[Task]) -> None:
    for task in tasks:
        task.assert_ends("success")
        task.assert_has_ended("success", 1)
        lines = [line for line in task.deferred() + task.forwarded() if line.startswith("line ")]
        assert lines == BEFORE + AFTER, task.text()
    jobs = [job for job in system.agent.request("GET", "jobs/").json() if is_of(job, tasks[0])]
    assert sorted(job["submission_id"] for job in jobs) == sorted(task.xcom("job_id") for task in tasks)


def is_of(job: dict[str, Any], task: Task) -> bool:
    return bool((job.get("metadata") or {}).get("airflow_run_id") == task.run_id)
