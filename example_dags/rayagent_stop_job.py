"""Stop a Ray job and wait until it has ended."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentStopJobOperator

with DAG(
    dag_id="rayagent_stop_job",
    description="Stop a Ray job; a job that has ended already is fine.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_id": Param("job-id", type="string", description="Id of the job to stop.")
    },
):
    RayAgentStopJobOperator(
        task_id="stop_job", job_id="{{ params.job_id }}", timeout=300
    )
