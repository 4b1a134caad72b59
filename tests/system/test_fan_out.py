"""The example DAGs that run a plugin: once, and with many parameter sets, a few at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.support import Task

if TYPE_CHECKING:
    from tests.system.support import System

DAG_ID = "rayagent_fan_out"
EPOCHS = [2, 5, 3]
AT_ONCE = 2


def test_the_next_task_uses_the_result_of_a_plugin(system: System) -> None:
    loss = system.start("rayagent_run_plugin", "keep_loss", epochs=2)
    loss.assert_ends("success")
    assert loss.xcom() == 0.5**2


def test_every_mapped_task_runs_one_job_of_its_own_and_only_so_many_at_once(system: System) -> None:
    best = system.start(DAG_ID, "best", epochs=EPOCHS)
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


def jobs_of(system: System) -> list[str]:
    """Return the ids of all jobs that Ray has had of the DAG."""
    found = [str(job["submission_id"]) for job in system.agent.request("GET", "jobs/").json()]
    return [job_id for job_id in found if job_id.startswith(f"{DAG_ID}-")]


def most_at_once(spans: list[tuple[str, str]]) -> int:
    """Return how many of the spans of time, beginning and end, overlap at most."""
    return max(len([begin for begin, end in spans if begin <= moment < end]) for moment, _end in spans)
