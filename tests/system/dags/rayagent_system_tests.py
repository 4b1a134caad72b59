"""The sensor with the arguments that no example DAG has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

# A task that is looked at again within a second or two can overtake Airflow's own note that its last look is over,
# which Airflow takes for a crash; so no shorter interval than this with mode="reschedule".
RESCHEDULE = {"mode": "reschedule", "poke_interval": 5}
WORKER = {"deferrable": False}
DEFERRED = {"deferrable": True}
STOPS = {"stop_job_on_kill": True, "read_messages": True, "show_markers": True}
TIMEOUT = {"timeout": 6, "poke_interval": 1}
EXECUTION_TIMEOUT = {"execution_timeout": timedelta(seconds=6)}
# In a worker it is a timer of Airflow's, which the test lets go off when the job is followed.
LONG_TIMEOUT = {"execution_timeout": timedelta(minutes=10)}
UNREACHABLE = {"agent_unreachable_timeout": 10, "retries": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "system_plain": WORKER,
    "system_missing": {"job_missing_timeout": 5},
    "system_reschedule": RESCHEDULE,
    "system_timeout": TIMEOUT,
    "system_timeout_soft_fail": {**RESCHEDULE, "timeout": 6, "soft_fail": True},
    "system_stops": WORKER | STOPS,
    "system_timeout_stops": WORKER | STOPS | TIMEOUT,
    "system_execution_timeout_stops": WORKER | STOPS | LONG_TIMEOUT,
    "system_deferred": DEFERRED,
    "system_deferred_soft_fail": DEFERRED | {"soft_fail": True},
    "system_deferred_timeout": DEFERRED | TIMEOUT,
    "system_deferred_timeout_soft_fail": DEFERRED | TIMEOUT | {"soft_fail": True},
    "system_deferred_execution_timeout": DEFERRED | EXECUTION_TIMEOUT,
    "system_deferred_stops": DEFERRED | STOPS,
    "system_unreachable": WORKER | STOPS | UNREACHABLE,
    "system_deferred_unreachable": DEFERRED | STOPS | UNREACHABLE,
    "system_deferred_timeout_stops": DEFERRED | STOPS | TIMEOUT,
    "system_deferred_execution_timeout_stops": DEFERRED | STOPS | EXECUTION_TIMEOUT,
}

for dag_id, arguments in VARIANTS.items():
    with DAG(
        dag_id=dag_id,
        schedule=None,
        # For the cluster, which most runs have none of.
        render_template_as_native_obj=True,
        params={
            "job_id": Param("job-id", type="string"),
            "conn_id": Param("rayagent_default", type="string"),
            "cluster": Param(None, type=["null", "string"]),
        },
    ):
        RayAgentJobSensor(
            task_id="follow_job",
            job_id="{{ params.job_id }}",
            rayagent_conn_id="{{ params.conn_id }}",
            cluster="{{ params.cluster }}",
            **arguments,
        )

with DAG(dag_id="system_deferred_mapped", schedule=None, params={"first": "job-id", "second": "job-id"}):
    RayAgentJobSensor.partial(task_id="follow_job", deferrable=True).expand(
        job_id=["{{ params.first }}", "{{ params.second }}"]
    )
