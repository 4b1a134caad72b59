"""A night's work around a training job.

The training itself is started by the team's own release pipeline, under an id that carries the date
(``train-20260131``), and so is a job that evaluates it while it trains (``watch-20260131``). This DAG follows the
training; when it has succeeded, yesterday's canary application makes room for the new one. The evaluating job would
run for ever, so it is stopped in any case, also when the training failed.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, Param, TriggerRule

from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentStopJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

NIGHT = "{{ params.night or logical_date | ds_nodash }}"

with DAG(
    dag_id="rayagent_nightly",
    description="Follow the night's training, retire the old canary, stop the evaluation.",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["example", "rayagent"],
    params={
        "night": Param("", type="string", description="Which night, as YYYYMMDD; empty: the run's own."),
        "canary": Param("canary", type="string", description="The Serve application to retire."),
    },
):
    follow_training = RayAgentJobSensor(
        task_id="follow_training",
        job_id=f"train-{NIGHT}",
        job_missing_timeout=1800,
        timeout=timedelta(hours=5).total_seconds(),
    )
    retire_canary = RayAgentDeleteServeApplicationOperator(task_id="retire_canary", name="{{ params.canary }}")
    stop_evaluation = RayAgentStopJobOperator(
        task_id="stop_evaluation",
        job_id=f"watch-{NIGHT}",
        if_missing="succeed",
        trigger_rule=TriggerRule.ALL_DONE,
    )
    follow_training >> [retire_canary, stop_evaluation]
