"""Tasks whose jobs hang in the first try, and continue in the second one."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

with DAG(
    "system_stalled",
    schedule=None,
    params={"conn_id": Param("rayagent_default", type="string"), "entrypoint": Param("true", type="string")},
):
    for task_id in ("worker", "deferred"):
        RayAgentSubmitJobOperator(
            task_id=task_id,
            rayagent_conn_id="{{ params.conn_id }}",
            entrypoint="{{ params.entrypoint }}",
            entrypoint_num_cpus=0.1,
            stall_timeout=60,
            deferrable=task_id == "deferred",
            retries=1,
            retry_delay=1,
        )
