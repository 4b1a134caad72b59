"""The example DAGs that run a plugin: once, and with many parameter sets, a few at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from tests.system.support import System

pytestmark = pytest.mark.full

DAG_ID = "rayagent_fan_out"
EPOCHS = [2, 5, 3]
AT_ONCE = 2
SLOTS = 3
"""How many jobs of plugins the local agent runs at once; others wait."""


def test_the_next_task_uses_the_result_of_a_plugin(system: System) -> None:
    loss = system.start("rayagent_run_plugin", "keep_loss", epochs=2)
    loss.assert_ends("success")
    assert loss.xcom() == 0.5**2


def test_every_mapped_task_runs_one_job_of_its_own_and_only_so_many_at_once(system: System) -> None:
    release = system.programs / DAG_ID
    for _ in range(SLOTS):
        system.agent.wait(system.agent.run("held@1.0", "print", {"release": str(release)})["job_id"], ("RUNNING",))
    best = system.start(DAG_ID, "best", epochs=EPOCHS)
    # Their jobs can't begin, so the first task does not end before the second one is there.
    wait_for_running(best, "train", AT_ONCE)
    release.touch()
    assert system.airflow.wait_for_run(DAG_ID, best.run_id) == "success"

    tasks = [Task(system.airflow, DAG_ID, best.run_id, "train", index) for index in range(len(EPOCHS))]
    ids = [task.xcom("job_id") for task in tasks]
    assert sorted(set(ids)) == sorted(jobs_of(system))
    for task, job_id, epochs in zip(tasks, ids, EPOCHS, strict=True):
        assert (task.instance()["state"], task.instance()["try_number"]) == ("success", 1)
        details = task.xcom()
        assert (details["submission_id"], details["status"]) == (job_id, "SUCCEEDED")
        assert details["result"] == {"epochs": epochs, "loss": 0.5**epochs}
        assert f"train: {epochs} epochs, as job {job_id}" in task.forwarded()
    assert best.xcom() == {"job_id": ids[1], "epochs": 5, "loss": 0.5**5}

    instances = [task.instance() for task in tasks]
    assert most_at_once([(each["start_date"], each["end_date"]) for each in instances]) == AT_ONCE
    jobs = [system.agent.job(job_id) for job_id in ids]
    assert most_at_once([(each["start_time"], each["end_time"]) for each in jobs]) <= AT_ONCE


def wait_for_running(of_run: Task, task_id: str, count: int) -> None:
    """Wait until so many mapped instances of a task run at the same time.

    :param of_run: any task of the run.
    """

    def look() -> bool | None:
        instances = of_run.airflow.task_instances(of_run.dag_id, of_run.run_id)
        states = [each["state"] for each in instances if each["task_id"] == task_id]
        return states.count("running") == count or None

    wait_until(look, f"{task_id} in {of_run.run_id} is not running {count} times at once")


def jobs_of(system: System) -> list[str]:
    """Return the ids of all jobs that Ray has had of the DAG."""
    found = [str(job["submission_id"]) for job in system.agent.request("GET", "jobs/").json()]
    return [job_id for job_id in found if job_id.startswith(f"{DAG_ID}-")]


def most_at_once(spans: list[tuple[str, str]]) -> int:
    """Return how many of the spans of time, beginning and end, overlap at most."""
    return max(len([begin for begin, end in spans if begin <= moment < end]) for moment, _end in spans)
