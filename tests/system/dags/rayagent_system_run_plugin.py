"""The operator that runs a plugin, in a worker and deferred, with a second try that comes soon."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator

for dag_id, deferrable in (("system_run_plugin", False), ("system_run_plugin_deferred", True)):
    with DAG(
        dag_id=dag_id,
        schedule=None,
        params={
            "release": Param("/nowhere", type="string"),
            "conn_id": Param("rayagent_default", type="string"),
        },
    ):
        RayAgentRunPluginOperator(
            task_id="run_plugin",
            lookup="held@1.0",
            action="print",
            action_params={"release": "{{ params.release }}"},
            rayagent_conn_id="{{ params.conn_id }}",
            deferrable=deferrable,
            poll_interval=1,
            retries=1,
            retry_delay=timedelta(seconds=1),
        )
