"""The example DAGs that submit jobs, over Ray's own dashboard; one of them over an agent as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from tests.level import FULL
from tests.stack.holding import holding_proxy
from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.serve import Serve
    from tests.system.support import System

AT_ONCE = 2
RATES = [0.1, 0.4, 0.25]
LOSS_AFTER_3 = "rate 0.1: loss 0.262144 after 3 epochs"


@pytest.fixture(scope="module")
def runs(system: System, serve: Serve, plain_ray: str) -> Iterator[dict[str, Task]]:
    """The last task of a run of each DAG; the runs take place at the same time."""
    serve.deploy("model-2026-01-28", "model-2026-01-30", "model-2026-02-01")
    with holding_proxy(system.agent.ray_address, "/api/jobs/") as proxy:
        held = system.connect_ray("plain_ray_fan_out", host=proxy.url, read_timeout=MAX_TIMEOUT)
        runs = {
            "fan out": system.start("rayagent_submit_fan_out", "best", conn_id=held, rates=RATES),
            "job": system.start("rayagent_submit_job", "keep_loss", conn_id=plain_ray),
            "nightly": system.start("rayagent_submit_nightly", "find_old", conn_id=plain_ray, night="2026-01-31"),
        }
        if FULL:
            runs["job over an agent"] = system.start("rayagent_submit_job", "keep_loss")
        # The first task has no answer yet, so it does not end before the second one is there.
        wait_for_running(runs["fan out"], "train", AT_ONCE)
        proxy.drop()
        yield runs


def wait_for_running(of_run: Task, task_id: str, count: int) -> None:
    """Wait until so many mapped instances of a task run at the same time.

    :param of_run: any task of the run.
    """

    def look() -> bool | None:
        instances = of_run.airflow.task_instances(of_run.dag_id, of_run.run_id)
        states = [each["state"] for each in instances if each["task_id"] == task_id]
        return states.count("running") == count or None

    wait_until(look, f"{task_id} in {of_run.run_id} is not running {count} times at once")


def most_at_once(spans: list[tuple[str, str]]) -> int:
    """Return how many of the spans of time, beginning and end, overlap at most."""
    return max(len([begin for begin, end in spans if begin <= moment < end]) for moment, _end in spans)


def other(task: Task, task_id: str, map_index: int = -1) -> Task:
    """Return another task of the same run."""
    return Task(task.airflow, task.dag_id, task.run_id, task_id, map_index)


@pytest.mark.parametrize("name", ["job", pytest.param("job over an agent", marks=pytest.mark.full)])
def test_a_job_runs_with_the_files_of_its_folder_and_gives_its_result(
    system: System, runs: dict[str, Task], name: str
) -> None:
    train = other(runs[name], "train")
    train.assert_ends("success")
    runs[name].assert_ends("success")

    lines = train.forwarded()
    assert [line for line in lines if line.startswith("rate 0.1")] == [LOSS_AFTER_3]
    assert train.xcom()["result"] == {"epochs": 3, "rate": 0.25, "loss": 0.5**6}
    assert runs[name].xcom() == 0.5**6
    job = system.agent.job(train.xcom("job_id"))
    assert (job["metadata"]["airflow_run_id"], job["metadata"]["airflow_task_id"]) == (train.run_id, "train")
    assert job["runtime_env"]["working_dir"].startswith("gcs://rayagent_")
    assert train.link() == f"{system.agent.ray_address}/#/jobs/{job['submission_id']}"


def test_mapped_tasks_submit_a_job_each_and_only_two_run_at_once(system: System, runs: dict[str, Task]) -> None:
    best = runs["fan out"]
    best.assert_ends("success")

    tasks = [other(best, "train", index) for index in range(len(RATES))]
    ids = [task.xcom("job_id") for task in tasks]
    assert len(set(ids)) == len(RATES)
    assert [task.xcom()["result"]["rate"] for task in tasks] == RATES
    assert best.xcom() == {"job_id": ids[1], "epochs": 3, "rate": 0.4, "loss": pytest.approx(0.2**6)}
    instances = [task.instance() for task in tasks]
    assert most_at_once([(each["start_date"], each["end_date"]) for each in instances]) == AT_ONCE
    packages = {system.agent.job(job_id)["runtime_env"]["working_dir"] for job_id in ids}
    assert len(packages) == 1
    assert any("The cluster already has" in task.text() for task in tasks)


def test_a_night_trains_deploys_its_application_and_deletes_those_before(
    system: System, serve: Serve, runs: dict[str, Task]
) -> None:
    find = runs["nightly"]
    find.assert_ends("success")
    assert system.airflow.wait_for_run(find.dag_id, find.run_id) == "success"

    assert LOSS_AFTER_3 in other(find, "train").deferred()
    wait = other(find, "wait").xcom()
    assert (wait["name"], wait["status"]) == ("model-2026-01-31", "RUNNING")
    old = find.xcom()
    assert sorted(old) == ["model-2026-01-28", "model-2026-01-30"]
    deleted = [other(find, "delete_old", index).xcom() for index in range(len(old))]
    assert deleted == [{"name": name, "status": "RUNNING", "deleted": True} for name in old]
    assert serve.statuses().items() >= {"model-2026-01-31": "RUNNING", "model-2026-02-01": "RUNNING"}.items()
    status, text = serve.answer("model-2026-01-31")
    assert (status, json.loads(text)) == (200, {"loss": 0.5**6})


@pytest.mark.full
def test_the_example_that_continues_runs_to_its_end(system: System, tmp_path: Path) -> None:
    train = system.start("rayagent_resume", "train", storage=str(tmp_path))
    train.assert_ends("success")
    Task(system.airflow, train.dag_id, train.run_id, "predict").assert_ends("success")
    assert len(list(tmp_path.glob("*train*/checkpoint_*/state.json"))) == 10
    assert list(tmp_path.glob("*predict*/rows/*.parquet"))
