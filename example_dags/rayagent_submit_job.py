"""Submit a Ray job with the files of a folder, and use its result in the next task.

The folder ``jobs/train`` is beside this file.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator


@task
def keep_loss(details: Any) -> float:
    """Return the loss, from what the job printed as its result."""
    return float(details["result"]["loss"])


with DAG(
    dag_id="rayagent_submit_job",
    description="Submit a job, follow it, and use its result.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "epochs": Param(3, type="integer", minimum=1, description="Epochs to train."),
        "conn_id": Param(
            "rayagent_default", type="string", description="The connection to Ray."
        ),
    },
):
    train = RayAgentSubmitJobOperator(
        task_id="train",
        rayagent_conn_id="{{ params.conn_id }}",
        entrypoint="python train_model.py --epochs {{ params.epochs }}",
        working_dir="jobs/train",
        runtime_env={"env_vars": {"PYTHONUNBUFFERED": "1"}},
        entrypoint_num_cpus=0.1,
        execution_timeout=timedelta(hours=6),
        retries=2,
    )
    keep_loss(train.output)
