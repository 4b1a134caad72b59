"""Wait until four GPUs of the cluster are free, then train on them.

Create the pool once, with as many slots as the cluster has GPUs:
``airflow pools set ray_gpus 16 "GPUs of the cluster" --include-deferred``.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator
from airflow_provider_rayagent.sensors.rayagent import RayAgentCapacitySensor

with DAG(
    dag_id="rayagent_wait_for_gpus",
    description="Wait for free GPUs without a worker, then run a plugin on them.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
):
    wait = RayAgentCapacitySensor(
        task_id="wait_for_gpus",
        num_gpus=4,
        accelerator_type="A100",
        timeout=timedelta(hours=12).total_seconds(),
        deferrable=True,
    )
    train = RayAgentRunPluginOperator(
        task_id="train",
        lookup="train@1.0",
        action="train",
        action_params={"epochs": 3},
        pool="ray_gpus",
        pool_slots=4,
        start_timeout=timedelta(hours=1),
    )
    wait >> train
