"""Follow many Ray jobs at once, none of which holds a worker slot."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor


@task
def jobs_to_follow(params: dict[str, list[str]] | None = None) -> list[str]:
    """Return the ids of the jobs."""
    return (params or {})["job_ids"]


with DAG(
    dag_id="rayagent_follow_many",
    description="Follow Ray jobs in the triggerer, one mapped task each.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_ids": Param(
            ["job-id"], type="array", description="Ids of the jobs to follow."
        )
    },
):
    RayAgentJobSensor.partial(
        task_id="follow_job",
        deferrable=True,
        timeout=timedelta(hours=6).total_seconds(),
    ).expand(job_id=jobs_to_follow())
