"""Tasks whose jobs fail, each for another reason, in a worker and deferred."""

from __future__ import annotations

from airflow.sdk import DAG, Context, Param, get_current_context, task

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

with DAG(
    "system_failing",
    schedule=None,
    params={"conn_id": Param("rayagent_default", type="string"), "entrypoints": Param([], type="array")},
):

    @task
    def entrypoints() -> list[str]:
        context: Context = get_current_context()
        found: list[str] = context["params"]["entrypoints"]
        return found

    commands = entrypoints()
    for task_id in ("worker", "deferred"):
        RayAgentSubmitJobOperator.partial(
            task_id=task_id,
            rayagent_conn_id="{{ params.conn_id }}",
            deferrable=task_id == "deferred",
        ).expand(entrypoint=commands)
