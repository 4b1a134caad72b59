"""A night's work around a training job.

The plugin ``train`` runs as a Ray job. The team's release pipeline then deploys the
trained model as a Serve application; once that is RUNNING, the application that it
replaces is deleted. A job that evaluates the training (``watch-20260131``) would run
forever, so it is stopped in any case, also if the training failed.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Param, TriggerRule

from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentRunPluginOperator,
    RayAgentStopJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import RayAgentServeApplicationSensor

NIGHT = "{{ params.night or dag_run.run_after | ds_nodash }}"

with DAG(
    dag_id="rayagent_nightly",
    description="Train, wait for the application, delete the old one, stop a job.",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["example", "rayagent"],
    params={
        "night": Param(
            "",
            type="string",
            description="Which night, as YYYYMMDD; empty: the run's own.",
        ),
        "epochs": Param(3, type="integer", minimum=1, description="How long to train."),
        "application": Param(
            "production",
            type="string",
            description="The Serve application that has to run.",
        ),
        "old_application": Param(
            "canary",
            type="string",
            description="The Serve application that it replaces.",
        ),
    },
):
    train = RayAgentRunPluginOperator(
        task_id="train",
        lookup="train@1.0",
        action="train",
        action_params={"night": NIGHT, "epochs": "{{ params.epochs }}"},
        execution_timeout=timedelta(hours=5),
    )
    check_deployment = RayAgentServeApplicationSensor(
        task_id="check_deployment",
        name="{{ params.application }}",
        deferrable=True,
        timeout=timedelta(hours=1).total_seconds(),
    )
    delete_old_application = RayAgentDeleteServeApplicationOperator(
        task_id="delete_old_application",
        name="{{ params.old_application }}",
    )
    stop_evaluation = RayAgentStopJobOperator(
        task_id="stop_evaluation",
        job_id=f"watch-{NIGHT}",
        if_missing="succeed",
        trigger_rule=TriggerRule.ALL_DONE,
    )
    train >> check_deployment >> [delete_old_application, stop_evaluation]
