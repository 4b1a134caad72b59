"""Delete one Ray Serve application and wait until it is gone; others keep running."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
)

with DAG(
    dag_id="rayagent_delete_serve_application",
    description="Delete one Ray Serve application; one that is not there is fine.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "name": Param(
            "application",
            type="string",
            description="Name of the application to delete.",
        )
    },
):
    RayAgentDeleteServeApplicationOperator(
        task_id="delete_application", name="{{ params.name }}", timeout=300
    )
