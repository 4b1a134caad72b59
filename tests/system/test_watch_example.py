"""A DAG starts when a real Ray job ends that something else has submitted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from tests.system.support import System

pytestmark = pytest.mark.each_airflow

DAG_ID = "rayagent_watch_jobs"


def test_the_dag_gets_the_jobs_that_the_filter_takes(system: System) -> None:
    def submit(name: str, program: str = "", **metadata: str) -> str:
        job_id = f"{name}-{uuid.uuid4().hex[:8]}"
        return system.submit(program or "pass", submission_id=job_id, metadata=metadata)

    wait_until(lambda: "Watching the ends of jobs" in triggerer_log(system) or None, "no watcher runs")
    others = [
        submit("train", "raise SystemExit(1)", team="vision"),
        submit("train", team="audio"),
        submit("evaluate", team="vision"),
    ]
    for job_id in others:
        wait_until(lambda job_id=job_id: system.agent.job(job_id)["end_time"], f"job {job_id} is not over")  # type: ignore[misc]
    first = submit("train", team="vision")
    runs = wait_until(lambda: system.api("GET", f"dags/{DAG_ID}/dagRuns")["dag_runs"] or None, f"no run of {DAG_ID}")
    task = Task(system.airflow, DAG_ID, runs[0]["dag_run_id"], "deploy")
    task.assert_ends("success")
    assert runs[0]["run_type"] == "asset_triggered"
    deployed = task.xcom()
    assert list(deployed) == [first]
    assert deployed[first].startswith("ran ")


def triggerer_log(system: System) -> str:
    """Return what the triggerers have printed."""
    return "".join(path.read_text(encoding="utf-8") for path in system.airflow.home.glob("triggerer*.log"))
