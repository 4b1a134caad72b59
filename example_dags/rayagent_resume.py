"""Train and predict; a retry continues where the last try stopped.

The folder ``jobs/resume`` is beside this file.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

with DAG(
    dag_id="rayagent_resume",
    description="Jobs whose retries continue from a checkpoint.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        # The pattern lets no text through that means something to the shell.
        "storage": Param(
            "/mnt/cluster_storage",
            type="string",
            pattern=r"^[a-z0-9]*:?/[\w/.-]+$",
            description="Folder or URI that all nodes can write to.",
        ),
    },
    default_args={
        "working_dir": "jobs/resume",
        "runtime_env": {"uv": ["pandas", "pyarrow"]},
        "retries": 3,
    },
):
    train = RayAgentSubmitJobOperator(
        task_id="train",
        entrypoint="python train_steps.py --storage {{ params.storage }}",
    )
    predict = RayAgentSubmitJobOperator(
        task_id="predict",
        entrypoint="python predict_rows.py --storage {{ params.storage }}",
    )
    train >> predict
