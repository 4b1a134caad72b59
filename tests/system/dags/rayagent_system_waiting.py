"""Tasks without retries, whose policy lets them wait for what is not ready (Airflow 3.4)."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

with DAG(
    "system_waiting",
    schedule=None,
    params={
        "conn_id": Param("rayagent_default", type="string"),
        "entrypoint": Param("true", type="string"),
        "num_cpus": Param(0.1, type="number"),
    },
):
    for task_id in ("worker", "deferred"):
        RayAgentSubmitJobOperator(
            task_id=task_id,
            rayagent_conn_id="{{ params.conn_id }}",
            entrypoint="{{ params.entrypoint }}",
            entrypoint_num_cpus="{{ params.num_cpus }}",
            start_timeout=5,
            agent_unreachable_timeout=2,
            poll_interval=1,
            deferrable=task_id == "deferred",
            retries=0,
            retry_policy=RayAgentRetryPolicy(start_timeout=1, unreachable=1),
        )
