"""The routes for one task instance: its job and no other."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Path
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from airflow_provider_rayagent.ui import clusters
from airflow_provider_rayagent.ui.access import READ_TASK_LOGS, may_use
from airflow_provider_rayagent.ui.downloads import LogFile
from airflow_provider_rayagent.ui.job_rows import details_of
from airflow_provider_rayagent.ui.page_thread import page_thread
from airflow_provider_rayagent.ui.routes import After, log_part
from airflow_provider_rayagent.ui.task_jobs import StoredJob, belongs_to, find_task_job
from airflow_provider_rayagent.ui.task_links import TaskKey

router = APIRouter(
    prefix="/api/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}", default_response_class=JSONResponse
)
MapIndex = Annotated[int, Path(ge=-1, lt=2**31)]
"""An integer of 32 bits in the database."""
_USE = ("cpu", "memory", "gpu", "node_counts")
"""The part of the cluster's resources that a user sees who may not read the connection."""


@router.get("/job", dependencies=READ_TASK_LOGS)
async def get_job(dag_id: str, run_id: str, task_id: str, map_index: MapIndex, user: GetUserDep) -> Any:
    """Return the details of the task's job, and to those who may stop it the connection whose route does that."""
    task_job, job = await _job_of(TaskKey(dag_id, run_id, task_id, map_index))
    look = await clusters.look_at_failure(task_job.viewed, task_job.job_id, job)
    details = await page_thread.compute(details_of, job.value, task_job.job_id, job.config, look)
    # An auth manager may ask a database or a server, and its interface is synchronous.
    may_stop = await run_in_threadpool(may_use, user, task_job.viewed.connection_id, "GET", "PUT")
    return {
        **details,
        "task": task_job.key._asdict(),
        "task_state": task_job.state,
        "connection_id": task_job.viewed.name if may_stop else None,
    }


@router.get("/job/log", dependencies=READ_TASK_LOGS)
async def get_log(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: MapIndex,
    user: GetUserDep,
    after: After = "",
) -> Response:
    """Return what follows in the log of the task's job."""
    task_job, _ = await _job_of(TaskKey(dag_id, run_id, task_id, map_index))
    return await log_part(task_job.viewed, task_job.job_id, str(user.get_id()), after)


@router.get("/job/log/download", dependencies=READ_TASK_LOGS)
async def download_log(dag_id: str, run_id: str, task_id: str, map_index: MapIndex, user: GetUserDep) -> LogFile:
    """Return the current log of the task's job as a file."""
    task_job, _ = await _job_of(TaskKey(dag_id, run_id, task_id, map_index))
    return LogFile(task_job.viewed.hook(), task_job.job_id, str(user.get_id()))


@router.get("/cluster", dependencies=READ_TASK_LOGS)
async def get_cluster(dag_id: str, run_id: str, task_id: str, map_index: MapIndex) -> Any:
    """Return how much of the cluster that runs the task's job is in use."""
    task_job, _ = await _job_of(TaskKey(dag_id, run_id, task_id, map_index))
    resources = (await clusters.resources_of(task_job.viewed)).value
    return {name: resources.get(name) for name in _USE}


async def _job_of(key: TaskKey) -> tuple[StoredJob, clusters.ServiceResult]:
    """Return a task instance's job, and its details.

    :raises HTTPException: 404 if the task instance has none.
    """
    task_job = await run_in_threadpool(find_task_job, key)
    job = await clusters.job_of(task_job.viewed, task_job.job_id)
    # Otherwise whoever can set an XCom or a parameter of the run could read any job of the connection here.
    if not await run_in_threadpool(belongs_to, task_job, job.value, job.config.job_namespace):
        raise HTTPException(404, "The job that is stored for this task was not started by it.")
    return task_job, job
