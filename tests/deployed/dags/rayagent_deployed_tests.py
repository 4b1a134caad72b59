"""The tasks of the tests: the sensor and the operators that start a job, in a worker and deferred."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator, RayAgentSubmitJobOperator
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

WORKER: dict[str, Any] = {"deferrable": False}
DEFERRED: dict[str, Any] = {"deferrable": True, "read_messages": True, "show_markers": True}
STOPS: dict[str, Any] = {"stop_job_on_kill": True}
# A worker of its own, which a test ends; the second try comes soon.
REPLACED: dict[str, Any] = {"queue": "replaced", "retries": 1, "retry_delay": timedelta(seconds=1)}
SENSORS: dict[str, dict[str, Any]] = {
    "deployed_worker": WORKER,
    "deployed_worker_stops": WORKER | STOPS,
    "deployed_worker_replaced": WORKER | REPLACED,
    # A shorter interval can overtake Airflow's own note that the last look is over.
    "deployed_reschedule": {"mode": "reschedule", "poke_interval": 5},
    "deployed_deferred": DEFERRED,
    "deployed_deferred_other_queue": DEFERRED | {"queue": "other"},
    "deployed_deferred_stops": DEFERRED | STOPS,
    "deployed_deferred_result": DEFERRED | {"read_result": True},
    "deployed_deferred_max_lines": DEFERRED | {"max_lines": 30},
}

for dag_id, arguments in SENSORS.items():
    with DAG(
        dag_id=dag_id,
        schedule=None,
        params={
            "job_id": Param("job-id", type="string"),
            "conn_id": Param("rayagent_default", type="string"),
        },
    ):
        RayAgentJobSensor(
            task_id="follow_job",
            job_id="{{ params.job_id }}",
            rayagent_conn_id="{{ params.conn_id }}",
            **arguments,
        )

with DAG(
    dag_id="deployed_run_plugin",
    schedule=None,
    params={
        "epochs": Param(3, type="integer"),
        "conn_id": Param("rayagent_default", type="string"),
    },
):
    RayAgentRunPluginOperator(
        task_id="run_plugin",
        lookup="train@1.0",
        action="train",
        action_params={"epochs": "{{ params.epochs }}", "seconds": 1},
        rayagent_conn_id="{{ params.conn_id }}",
        poll_interval=1,
        **REPLACED,
    )

with DAG(
    dag_id="deployed_submit",
    schedule=None,
    params={
        "epochs": Param(3, type="integer"),
        "conn_id": Param("plain_ray", type="string"),
    },
):
    RayAgentSubmitJobOperator(
        task_id="submit",
        entrypoint="python -u train.py {{ params.epochs }}",
        working_dir="jobs",
        rayagent_conn_id="{{ params.conn_id }}",
        poll_interval=1,
        **REPLACED,
    )
