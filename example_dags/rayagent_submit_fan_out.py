"""Submit one Ray job per parameter, a few at once, and choose the best result."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator


@task
def commands(params: dict[str, list[float]] | None = None) -> list[str]:
    """Return the command of each job."""
    return [f"python train_model.py --rates {rate}" for rate in (params or {})["rates"]]


@task
def best(jobs: Any) -> dict[str, Any]:
    """Return the job with the smallest loss."""
    found = min(jobs, key=lambda job: job["result"]["loss"])
    return {"job_id": found["submission_id"], **found["result"]}


with DAG(
    dag_id="rayagent_submit_fan_out",
    description="Train with several learning rates, one Ray job each, two at once.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "rates": Param(
            [0.1, 0.2, 0.3, 0.4],
            type="array",
            description="The learning rate of each job.",
        ),
        "conn_id": Param(
            "rayagent_default", type="string", description="The connection to Ray."
        ),
    },
):
    train = RayAgentSubmitJobOperator.partial(
        task_id="train",
        rayagent_conn_id="{{ params.conn_id }}",
        working_dir="jobs/train",
        entrypoint_num_cpus=0.1,
        max_active_tis_per_dagrun=2,
    ).expand(entrypoint=commands())
    best(train.output)
