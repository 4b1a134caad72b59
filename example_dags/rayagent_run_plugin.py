"""Run an action of a plugin as a Ray job, and use its result in the next task.

The local agent has the plugin ``train`` with
``rayagent-local --plugins example_dags/plugins``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator


@task
def keep_loss(details: Any) -> float:
    """Return the loss, from what the job printed as its result."""
    return float(details["result"]["loss"])


with DAG(
    dag_id="rayagent_run_plugin",
    description="Run an action of a plugin, follow its job, and use its result.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={"epochs": Param(3, type="integer", description="Epochs to train.")},
    render_template_as_native_obj=True,
):
    train = RayAgentRunPluginOperator(
        task_id="train",
        lookup="train@1.0",
        action="train",
        action_params={"epochs": "{{ params.epochs }}"},
        start_timeout=timedelta(minutes=30).total_seconds(),
        execution_timeout=timedelta(hours=6),
        retries=2,
    )
    keep_loss(train.output)
