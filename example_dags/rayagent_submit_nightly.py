"""Train a model, deploy it as a Serve application, and delete those of earlier nights.

The new application has a name and a route of its own, so that the old one serves until
the new one is RUNNING. Set ``schedule="0 2 * * *"`` to run this DAG every night.
"""

from __future__ import annotations

import re
from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentSubmitJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor

NAME = "model-{{ params.night or dag_run.run_after | ds }}"
LOSS = "{{ ti.xcom_pull('train')['result']['loss'] }}"


@task
def find_old(new: str, conn_id: str) -> list[str]:
    """Return the names of the applications of earlier nights."""
    with RayAgentHook(conn_id) as hook:
        names = [each["name"] for each in hook.list_serve_applications()]
    ours = [name for name in names if re.fullmatch(r"model-\d{4}-\d{2}-\d{2}", name)]
    return [name for name in ours if name < new]


with DAG(
    dag_id="rayagent_submit_nightly",
    description="Train, deploy the new application, wait for it, delete the old ones.",
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
        "conn_id": Param(
            "rayagent_default", type="string", description="The connection to Ray."
        ),
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
        entrypoint=f"python deploy_model.py {NAME} {LOSS}",
        working_dir="jobs/serve",
        entrypoint_num_cpus=0.1,
        execution_timeout=timedelta(minutes=30),
    )
    wait = RayAgentServeApplicationSensor(
        task_id="wait",
        name=NAME,
        timeout=timedelta(minutes=30).total_seconds(),
        deferrable=True,
    )
    old = find_old(NAME, "{{ params.conn_id }}")
    train >> deploy >> wait >> old
    RayAgentDeleteServeApplicationOperator.partial(task_id="delete_old").expand(
        name=old
    )
