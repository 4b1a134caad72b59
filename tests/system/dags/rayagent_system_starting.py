"""The operators that start a job, in a worker and deferred, with a second try that comes soon."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator, RayAgentSubmitJobOperator

DEFERRED = {"deferrable": True}
UNREACHABLE = {"agent_unreachable_timeout": 10, "retries": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "_deferred": DEFERRED,
    "_unreachable": UNREACHABLE,
    "_deferred_unreachable": DEFERRED | UNREACHABLE,
}
EACH: dict[str, Any] = {
    "rayagent_conn_id": "{{ params.conn_id }}",
    "poll_interval": 1,
    "retries": 1,
    "retry_delay": timedelta(seconds=1),
}
ENV_VARS = {"RELEASE": "{{ params.release }}", "API_KEY": "{{ params.release }}-s3cret"}

for suffix, options in VARIANTS.items():
    with DAG(
        dag_id=f"system_run_plugin{suffix}",
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
            **EACH | options,
        )

SUBMISSIONS = {
    **VARIANTS,
    "_kept": DEFERRED | {"stop_job_on_kill": False},
    "_needs_cpu": {"entrypoint_num_cpus": 1},
    "_needs_cpu_deferred": DEFERRED | {"entrypoint_num_cpus": 1},
}

for suffix, options in SUBMISSIONS.items():
    with DAG(
        dag_id=f"system_submit{suffix}",
        schedule=None,
        params={
            "release": Param("/nowhere", type="string"),
            "conn_id": Param("plain_ray", type="string"),
        },
    ):
        RayAgentSubmitJobOperator(
            task_id="submit",
            entrypoint="python held.py",
            working_dir="held",
            runtime_env={"env_vars": ENV_VARS},
            **EACH | options,
        )
