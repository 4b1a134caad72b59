"""Train a model, deploy it as a new Serve application, and delete the application of the night before.

The new application has a name and a route of its own, so that the old one serves until the new one is RUNNING. Nothing
starts this DAG by itself; set ``schedule="0 2 * * *"`` to run it every night.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentSubmitJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor

NIGHT = "{{ params.night or dag_run.run_after | ds }}"
BEFORE = "{{ macros.ds_add(params.night or dag_run.run_after | ds, -1) }}"

with DAG(
    dag_id="rayagent_submit_nightly",
    description="Train, deploy the new application, wait for it, delete the old one.",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={
        "rayagent_conn_id": "{{ params.conn_id }}",
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
    },
    tags=["example", "rayagent"],
    params={
        "night": Param(
            "",
            type="string",
            pattern=r"^(\d{4}-\d{2}-\d{2})?$",
            description="Which night, as YYYY-MM-DD; empty: that of the run.",
        ),
        "epochs": Param(3, type="integer", minimum=1, description="Epochs to train."),
        "conn_id": Param("rayagent_default", type="string", description="The connection to Ray."),
    },
):
    train = RayAgentSubmitJobOperator(
        task_id="train",
        entrypoint="python train_model.py --epochs {{ params.epochs }}",
        working_dir="jobs/train",
        entrypoint_num_cpus=0.1,
        execution_timeout=timedelta(hours=5),
        deferrable=True,
    )
    deploy = RayAgentSubmitJobOperator(
        task_id="deploy",
        entrypoint=f"python deploy_model.py model-{NIGHT} {{{{ ti.xcom_pull('train')['result']['loss'] }}}}",
        working_dir="jobs/serve",
        entrypoint_num_cpus=0.1,
        execution_timeout=timedelta(minutes=30),
    )
    wait = RayAgentServeApplicationSensor(
        task_id="wait",
        name=f"model-{NIGHT}",
        timeout=timedelta(minutes=30).total_seconds(),
        deferrable=True,
    )
    delete_old = RayAgentDeleteServeApplicationOperator(task_id="delete_old", name=f"model-{BEFORE}")
    train >> deploy >> wait >> delete_old
