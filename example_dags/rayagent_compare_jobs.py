"""Ask for many jobs at once, with the asyncio hook."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook


async def details_of(job_ids: list[str]) -> list[dict[str, Any]]:
    """Return the details of every job, asked for at the same time."""
    async with RayAgentAsyncHook() as hook:
        return await asyncio.gather(*(hook.get_job(job_id) for job_id in job_ids))


@task
def compare_jobs(params: dict[str, list[str]] | None = None) -> dict[str, float]:
    """Return how many seconds each job that has ended took."""
    jobs = asyncio.run(details_of((params or {})["job_ids"]))
    return {
        job["submission_id"]: (job["end_time"] - job["start_time"]) / 1000
        for job in jobs
        if job["end_time"]
    }


with DAG(
    dag_id="rayagent_compare_jobs",
    description="Compare how long Ray jobs took.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_ids": Param(
            ["job-id"], type="array", description="Ids of the jobs to compare."
        )
    },
):
    compare_jobs()
