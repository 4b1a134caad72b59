"""The operator that runs a plugin, when what runs it is killed: one job on Ray, and a green task."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.stack.holding import holding_proxy

if TYPE_CHECKING:
    from tests.stack.triggerers import Triggerers
    from tests.system.support import System, Task

EPOCHS = {"system_run_plugin": 12, "system_run_plugin_deferred": 30}
"""Of a second each: the job outlives the kill, so that the second try, or triggerer, sees it run."""


class Killed:
    """A worker that is killed before it has the agent's answer, and a triggerer that is killed while a task waits."""

    def __init__(self, system: System, triggerers: Triggerers) -> None:
        with holding_proxy(system.agent.url, "/run/") as proxy:
            conn_ids = (system.connect("rayagent_held", host=proxy.url), "rayagent_default")
            self.worker, self.deferred = (
                system.start(dag_id, "run_plugin", epochs=epochs, conn_id=conn_id)
                for (dag_id, epochs), conn_id in zip(EPOCHS.items(), conn_ids, strict=True)
            )
            proxy.wait_for_answer(60)
            system.airflow.server.send(signal.SIGKILL, self.worker.instance()["pid"])
            self.deferred.wait_for("deferred")
            self.deferred.wait_for_lines(3)
            holder = triggerers.holding(self.deferred.instance())
            triggerers.start()
            holder.kill()
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
    assert f"Job {job_id} of this task is there already, and RUNNING: it is followed." in task.text(try_number=2)
    assert_is_told(system, task, job_id, task.forwarded(try_number=2))


def test_a_triggerer_killed_while_the_task_waits_costs_neither_the_job_nor_the_task(
    system: System, killed: Killed
) -> None:
    task = killed.deferred
    assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 1), task.text()
    assert "Going on at line " in task.text()
    assert_is_told(system, task, only_job(system, task), task.deferred())


def only_job(system: System, task: Task) -> str:
    """Return the id of the one job that Ray has had of this task."""
    beginning = f"{task.dag_id}-{task.task_id}-"
    jobs = system.agent.request("GET", "jobs/").json()
    (found,) = [job["submission_id"] for job in jobs if str(job["submission_id"]).startswith(beginning)]
    return str(found)


def assert_is_told(system: System, task: Task, job_id: str, lines: list[str]) -> None:
    """The task names its job, has its result and all lines that are no state of a progress bar."""
    details = task.xcom()
    assert task.xcom("job_id") == details["submission_id"] == job_id
    assert details["status"] == "SUCCEEDED"
    epochs = EPOCHS[task.dag_id]
    assert details["result"] == {"epochs": epochs, "loss": 0.5**epochs}
    losses = [line for line in system.log_of(job_id) if ": loss " in line]
    assert len(losses) == epochs
    assert list(dict.fromkeys(line for line in lines if ": loss " in line)) == losses
