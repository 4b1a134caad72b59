"""The example DAG of a whole night."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.tasks.job_ids import derived_id
from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from tests.stack.serve import Serve
    from tests.system.support import System

pytestmark = pytest.mark.full

DAG_ID = "rayagent_nightly"
TASKS = ("train", "check_deployment", "delete_old_application", "stop_evaluation")
WATCHES = "import time; print('watching', flush=True); time.sleep(3600)"
LOSSES = ["epoch 1/3: loss 0.5000", "epoch 2/3: loss 0.2500", "epoch 3/3: loss 0.1250"]


@pytest.fixture(scope="module")
def deployed(serve: Serve) -> Serve:
    serve.deploy("canary")
    # The scheduler's run goes on as soon as this one is RUNNING.
    serve.deploy("production")
    return serve


def test_the_nights_that_the_scheduler_and_an_operator_start(
    system: System, serve: Serve, request: pytest.FixtureRequest
) -> None:
    """The scheduler's own run waits for its application since Airflow is up; the operator's waits for that run."""
    scheduled = scheduled_run(system)
    train = Task(system.airflow, DAG_ID, scheduled, "train")
    if train.wait_for("success", "up_for_retry") == "up_for_retry":
        # On a busy machine the scheduler starts it before Airflow's API, which every task needs, is there.
        system.airflow.clear(DAG_ID, scheduled, train.task_id)
    checking = Task(system.airflow, DAG_ID, scheduled, "check_deployment")
    checking.wait_for("deferred")
    assert "production" not in serve.statuses()
    night = scheduled.removeprefix("scheduled__")[:10].replace("-", "")
    operators = system.start(DAG_ID, "train", night="20260131").run_id

    for each in ("20260131", night):
        system.submit(WATCHES, submission_id=f"watch-{each}")
        system.agent.wait(f"watch-{each}", statuses=("RUNNING",))
    deployed = request.getfixturevalue("deployed")
    assert_all_is_done(system, scheduled, night, old={"name": "canary", "status": "RUNNING", "deleted": True})
    assert_all_is_done(system, operators, "20260131", old={"name": "canary", "status": None, "deleted": False})
    assert "canary" not in deployed.statuses()
    assert deployed.answer("production") == (200, "this is production")


def test_a_night_whose_training_is_stopped_keeps_the_old_application_and_stops_the_evaluation(
    system: System, deployed: Serve
) -> None:
    system.submit(WATCHES, submission_id="watch-20260201")
    train = system.start(DAG_ID, "train", night="20260201", epochs=600, old_application="production")
    train.wait_for("running")
    train.wait_for_text("epoch 1/600: loss")
    job_id = train.xcom("job_id")
    system.agent.request("POST", f"jobs/{job_id}/stop/").raise_for_status()

    assert system.airflow.wait_for_run(DAG_ID, train.run_id) == "failed"

    tasks = [Task(system.airflow, DAG_ID, train.run_id, name) for name in TASKS]
    states = [task.instance()["state"] for task in tasks]
    assert states == ["failed", "upstream_failed", "upstream_failed", "success"]
    assert f"Job {job_id} ended as STOPPED" in train.text()
    assert system.agent.job("watch-20260201")["status"] == "STOPPED"
    assert deployed.answer("production") == (200, "this is production")


def scheduled_run(system: System) -> str:
    """Return the id of the run that the scheduler made by itself: the first one, if a night has begun since."""

    def look() -> str | None:
        runs = system.api("GET", f"dags/{DAG_ID}/dagRuns?run_type=scheduled&order_by=run_after")["dag_runs"]
        return runs[0]["dag_run_id"] if runs else None

    return wait_until(look, f"no scheduled run of {DAG_ID}")


def assert_all_is_done(system: System, run_id: str, night: str, old: dict[str, object]) -> None:
    assert system.airflow.wait_for_run(DAG_ID, run_id) == "success"
    train, check, delete, stop = (Task(system.airflow, DAG_ID, run_id, name) for name in TASKS)
    assert_trained(system, train, derived_id((DAG_ID, run_id, "train", "-1")))
    assert (check.xcom()["name"], check.xcom()["status"]) == ("production", "RUNNING")
    assert "The Serve application 'production' is RUNNING." in check.text()
    assert delete.xcom() == old
    assert stop.xcom() == {"job_id": f"watch-{night}", "status": "STOPPED", "stop_requested": True}
    assert system.agent.job(f"watch-{night}")["status"] == "STOPPED"


def assert_trained(system: System, train: Task, job_id: str) -> None:
    assert train.xcom("job_id") == job_id
    details = train.xcom()
    assert (details["submission_id"], details["status"]) == (job_id, "SUCCEEDED")
    assert details["result"] == {"epochs": 3, "loss": 0.125}
    lines = train.forwarded(try_number := train.instance()["try_number"])
    assert f"train: 3 epochs, as job {job_id}" in lines
    assert [line for line in lines if ": loss " in line] == LOSSES
    states = [line.partition("|")[0] for line in lines if "%|" in line]
    assert states == [f"epoch {epoch}: {percent:3}%" for epoch in (1, 2, 3) for percent in (0, 100)]
    assert f"Started job {job_id}: train of train@1.0." in train.text(try_number)
    assert train.link() == f"{system.agent.ray_address}/#/jobs/{job_id}"
