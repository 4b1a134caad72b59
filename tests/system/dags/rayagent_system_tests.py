"""The sensor with the arguments that no example DAG has."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

# A task that is looked at again within a second or two can overtake Airflow's own note that its last look is over,
# which Airflow takes for a crash; so no shorter interval than this with mode="reschedule".
RESCHEDULE = {"mode": "reschedule", "poke_interval": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "system_plain": {},
    "system_missing": {"job_missing_timeout": 5},
    "system_soft_fail": {"soft_fail": True},
    "system_reschedule": RESCHEDULE,
    "system_timeout": {"timeout": 6, "poke_interval": 1},
    "system_timeout_soft_fail": {**RESCHEDULE, "timeout": 6, "soft_fail": True},
}

for dag_id, arguments in VARIANTS.items():
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
