"""Run a command as a Ray job, with its output in the task log."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

COMMAND = "for step in 1 2 3 4 5; do sleep 1; echo step $step of 5; done"

with DAG(
    dag_id="rayagent_first_job",
    description="Run a command as a Ray job.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={"command": Param(COMMAND, type="string", description="What Ray runs.")},
):
    RayAgentSubmitJobOperator(
        task_id="run_command",
        entrypoint="{{ params.command }}",
        execution_timeout=timedelta(hours=1),
    )
