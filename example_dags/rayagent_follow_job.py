"""Follow a Ray job that something else has started, and put its log into the task log.

Trigger it with the job's id:
``airflow dags trigger rayagent_follow_job --conf '{"job_id": "raysubmit_…"}'``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG(
    dag_id="rayagent_follow_job",
    description="Follow a Ray job to its end; green exactly when the job succeeded.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_id": Param("job-id", type="string", description="Id of the job to follow.")
    },
):
    RayAgentJobSensor(
        task_id="follow_job",
        job_id="{{ params.job_id }}",
        timeout=timedelta(hours=6).total_seconds(),
    )
