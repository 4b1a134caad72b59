"""The operator that runs a plugin, when what runs it is killed: one job on Ray, and a green task."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.stack.holding import holding_proxy
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.stack.triggerers import Triggerers
    from tests.system.support import System, Task

WORKER, DEFERRED = "system_run_plugin", "system_run_plugin_deferred"


class Killed:
    """A worker that is killed before it has the agent's answer, and a triggerer that is killed while a task waits."""

    def __init__(self, system: System, triggerers: Triggerers) -> None:
        with holding_proxy(system.agent.url, "/run/") as proxy:
            conn_ids = {WORKER: system.connect("rayagent_held", host=proxy.url), DEFERRED: "rayagent_default"}
            self.worker, self.deferred = (
                system.start(dag_id, "run_plugin", conn_id=conn_id, release=str(system.programs / dag_id))
                for dag_id, conn_id in conn_ids.items()
            )
            proxy.wait_for_answer()
            wait_until(lambda: jobs_of(system, self.worker) or None, "no job")
            system.agent.wait(only_job(system, self.worker), ("RUNNING",))
            system.airflow.components["scheduler"].send(signal.SIGKILL, self.worker.instance()["pid"])
            self.deferred.wait_for("deferred")
            self.deferred.wait_for_lines(3)
            holder = triggerers.holding(self.deferred.instance())
            triggerers.start()
            holder.kill()
            self.worker.wait_for_text("already exists", try_number=2)
            self.deferred.wait_for_text("Resuming at line ")
            system.release(WORKER, DEFERRED)
            self.worker.wait_for("success", "failed")
        self.deferred.wait()


@pytest.fixture(scope="module")
def killed(system: System, triggerers: Triggerers) -> Killed:
    return Killed(system, triggerers)


def test_a_worker_killed_before_the_agents_answer_leaves_a_job_that_the_next_try_finds(
    system: System, killed: Killed
) -> None:
    task = killed.worker
    assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 2), task.text(try_number=2)
    assert "Started job" not in task.text(), "the first try does not know that its job was started"
    job_id = only_job(system, task)
    assert f"Job {job_id} of this task already exists (RUNNING); attaching." in task.text(try_number=2)
    assert_is_told(system, task, job_id, task.forwarded(try_number=2))


def test_a_triggerer_killed_while_the_task_waits_costs_neither_the_job_nor_the_task(
    system: System, killed: Killed
) -> None:
    task = killed.deferred
    assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 1), task.text()
    assert_is_told(system, task, only_job(system, task), task.deferred())


def jobs_of(system: System, task: Task) -> list[str]:
    """Return the ids of the jobs that Ray has had of this task."""
    found = [str(job["submission_id"]) for job in system.agent.request("GET", "jobs/").json()]
    return [job_id for job_id in found if job_id.startswith(f"{task.dag_id}-{task.task_id}-")]


def only_job(system: System, task: Task) -> str:
    """Return the id of the one job that Ray has had of this task."""
    (found,) = jobs_of(system, task)
    return found


def assert_is_told(system: System, task: Task, job_id: str, lines: list[str]) -> None:
    """The task names its job, has its result and every line."""
    details = task.xcom()
    assert task.xcom("job_id") == details["submission_id"] == job_id
    assert details["status"] == "SUCCEEDED"
    written = [line for line in system.log_of(job_id) if line.startswith("line ")]
    assert details["result"] == {"lines": len(written)}
    assert list(dict.fromkeys(line for line in lines if line.startswith("line "))) == written
