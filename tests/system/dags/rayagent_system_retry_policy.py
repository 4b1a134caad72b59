"""Jobs that fail because of the program or of the platform, with a retry policy."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

with DAG("system_retry_policy", schedule=None, params={"conn_id": Param("rayagent_default", type="string")}):
    for task_id, runtime_env in (
        ("program", {}),
        ("platform", {"working_dir": "https://127.0.0.1:1/nothing.zip"}),
    ):
        RayAgentSubmitJobOperator(
            task_id=task_id,
            rayagent_conn_id="{{ params.conn_id }}",
            entrypoint="exit 3",
            runtime_env=runtime_env,
            poll_interval=1,
            # The default retry_delay of these tests is a day.
            retries=1,
            retry_policy=RayAgentRetryPolicy(runtime_env=1),
        )
