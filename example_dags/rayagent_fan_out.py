"""Run a plugin with many parameters, a few at once, and choose the best result."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator


@task
def parameter_sets(params: dict[str, list[int]] | None = None) -> list[dict[str, Any]]:
    """Return the parameters of each run."""
    return [{"epochs": epochs} for epochs in (params or {})["epochs"]]


@task
def best(runs: Any) -> dict[str, Any]:
    """Return the run with the smallest loss."""
    found = min(runs, key=lambda run: run["result"]["loss"])
    return {"job_id": found["submission_id"], **found["result"]}


with DAG(
    dag_id="rayagent_fan_out",
    description="Train with several parameter sets, one Ray job each, two at once.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "epochs": Param(
            [2, 3, 4, 5], type="array", description="How long to train, for each job."
        )
    },
):
    train = RayAgentRunPluginOperator.partial(
        task_id="train",
        lookup="train@1.0",
        action="train",
        max_active_tis_per_dag=2,
    ).expand(action_params=parameter_sets())
    best(train.output)
