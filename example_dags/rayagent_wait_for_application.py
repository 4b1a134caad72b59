"""Wait until a Serve application is RUNNING, without a worker slot."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor

with DAG(
    dag_id="rayagent_wait_for_application",
    description="Wait until a Serve application is RUNNING.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "name": Param(
            "application",
            type="string",
            description="Name of the application to wait for.",
        )
    },
):
    RayAgentServeApplicationSensor(
        task_id="wait_for_application",
        name="{{ params.name }}",
        timeout=timedelta(minutes=30).total_seconds(),
        deferrable=True,
    )
