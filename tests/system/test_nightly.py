"""The example DAG of a whole night."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Task

if TYPE_CHECKING:
    from tests.stack.serve import Serve
    from tests.system.support import System

DAG_ID = "rayagent_nightly"
TASKS = ("follow_training", "retire_canary", "stop_evaluation")
EPOCHS = [f"epoch {number}" for number in range(5)]
TRAINS = f"import time\nfor line in {EPOCHS!r}: print(line, flush=True); time.sleep(0.5)"
WATCHES = "import time; print('watching', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def deployed(serve: Serve) -> Serve:
    serve.deploy("canary", "production")
    return serve


def test_the_nights_that_the_scheduler_and_an_operator_start(system: System, deployed: Serve) -> None:
    """The scheduler's own run waits for its job since Airflow is up; the operator's run has to wait for that one."""
    scheduled = scheduled_run(system)
    training = Task(system.airflow, DAG_ID, scheduled, "follow_training")
    system.airflow.wait_for_task(DAG_ID, scheduled, training.task_id, ("running",))
    night = training.instance()["rendered_fields"]["job_id"].removeprefix("train-")
    assert night == scheduled.removeprefix("scheduled__")[:10].replace("-", "")
    operators = system.start(DAG_ID, "follow_training", night="20260131").run_id

    for each in ("20260131", night):
        system.submit(WATCHES, submission_id=f"watch-{each}")
        system.agent.wait(f"watch-{each}", statuses=("RUNNING",))
        system.submit(TRAINS, submission_id=f"train-{each}")
    assert_all_is_done(system, scheduled, night, canary={"name": "canary", "status": "RUNNING", "deleted": True})
    assert_all_is_done(system, operators, "20260131", canary={"name": "canary", "status": None, "deleted": False})
    assert "canary" not in deployed.statuses()
    assert deployed.answer("production") == (200, "this is production")


def test_a_night_that_fails_keeps_the_canary_and_stops_the_evaluation(system: System, deployed: Serve) -> None:
    system.submit(WATCHES, submission_id="watch-20260201")
    system.submit("raise SystemExit('diverged')", submission_id="train-20260201")
    training = system.start(DAG_ID, "follow_training", night="20260201", canary="production")

    assert system.airflow.wait_for_run(DAG_ID, training.run_id) == "failed"

    tasks = {name: Task(system.airflow, DAG_ID, training.run_id, name) for name in TASKS}
    assert [tasks[name].instance()["state"] for name in TASKS] == ["failed", "upstream_failed", "success"]
    assert "diverged" in tasks["follow_training"].text()
    assert system.agent.job("watch-20260201")["status"] == "STOPPED"
    assert deployed.answer("production") == (200, "this is production")


def scheduled_run(system: System) -> str:
    """Return the id of the run that the scheduler made by itself."""
    deadline = time.monotonic() + 60
    while True:
        runs = system.api("GET", f"dags/{DAG_ID}/dagRuns")["dag_runs"]
        found = [run["dag_run_id"] for run in runs if run["run_type"] == "scheduled"]
        if found:
            return str(found[0])
        assert time.monotonic() < deadline, runs
        time.sleep(0.5)


def assert_all_is_done(system: System, run_id: str, night: str, canary: dict[str, object]) -> None:
    assert system.airflow.wait_for_run(DAG_ID, run_id) == "success"
    training, retiring, stopping = (Task(system.airflow, DAG_ID, run_id, name) for name in TASKS)
    assert training.forwarded()[-len(EPOCHS) :] == EPOCHS
    assert training.xcom()["status"] == "SUCCEEDED"
    assert retiring.xcom() == canary
    assert stopping.xcom() == {"job_id": f"watch-{night}", "status": "STOPPED", "stop_requested": True}
    assert system.agent.job(f"watch-{night}")["status"] == "STOPPED"
