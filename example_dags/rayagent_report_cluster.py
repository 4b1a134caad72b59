"""Look at a Ray cluster, and search a job's log, with the hook."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook


@task
def report_cluster() -> dict[str, Any]:
    """Return what the cluster is busy with."""
    with RayAgentHook() as hook:
        jobs = hook.list_jobs()
        return {
            "nodes": len(hook.list_nodes()),
            "running": [
                job["submission_id"] for job in jobs if job["status"] == "RUNNING"
            ],
            "serving": {
                each["name"]: each["status"] for each in hook.list_serve_applications()
            },
        }


@task
def find_in_log(job_id: str, text: str) -> list[str]:
    """Wait for the end of a job; return the last lines of its log that have a text."""
    with RayAgentHook() as hook:
        return [line for line in hook.tail_job_logs(job_id) if text in line][-20:]


with DAG(
    dag_id="rayagent_report_cluster",
    description="Report what a Ray cluster is busy with, and search a job's log.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_id": Param(
            "job-id", type="string", description="Id of the job whose log is searched."
        ),
        "text": Param("ERROR", type="string", description="What is searched for."),
    },
):
    report_cluster()
    find_in_log("{{ params.job_id }}", "{{ params.text }}")
