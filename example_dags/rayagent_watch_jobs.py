"""Deploy a model when a Ray job that somebody else has submitted has trained it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher

TRAINED = Asset(
    "rayagent_example_trained",
    watchers=[
        AssetWatcher(
            name="ray",
            trigger=RayAgentJobWatcher(
                name="train-*",
                metadata={"team": "vision"},
                statuses=["SUCCEEDED"],
                poll_interval=5,
            ),
        )
    ],
)


@task
def deploy(*, triggering_asset_events: Any = None) -> dict[str, str]:
    """Deploy what each of the jobs has trained."""
    deployed = {}
    for event in triggering_asset_events[TRAINED]:
        job = event.extra["payload"]
        deployed[job["job_id"]] = f"ran {job['duration']} s: {job['entrypoint']}"
    return deployed


with DAG(
    dag_id="rayagent_watch_jobs",
    description="Start when a Ray job ends that somebody else has submitted.",
    schedule=[TRAINED],
    catchup=False,
    tags=["example", "rayagent"],
):
    deploy()
