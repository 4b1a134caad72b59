"""The routes for one connection: its jobs, cluster and Serve applications."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.ui import clusters
from airflow_provider_rayagent.ui.access import READ_CONNECTION, SIGNED_IN, readable_dags, recorded
from airflow_provider_rayagent.ui.downloads import LogFile
from airflow_provider_rayagent.ui.job_rows import MAX_LIMIT, STATUSES, details_of, page_of
from airflow_provider_rayagent.ui.page_thread import page_thread
from airflow_provider_rayagent.ui.pending_work import waiting_tasks
from airflow_provider_rayagent.ui.task_links import add_task_links
from airflow_provider_rayagent.ui.user_connections import PageHook, readable_connections
from airflow_provider_rayagent.ui.viewed_logs import readers

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.validation import JobId

router = APIRouter(default_response_class=JSONResponse)

MAX_TEXT = 200
WAITING_JOBS = 20
"""Of the jobs that wait, so many are shown with the cluster; all are counted."""
After = Annotated[str, Query(max_length=MAX_TEXT)]
"""``after`` of the last answer with a part of the log; see :meth:`.LogReader.answer`."""


@router.get("/api/connections", dependencies=SIGNED_IN)
# Not `async`: FastAPI then runs it in a thread, and its database queries do not block the API server.
def get_connections(user: GetUserDep) -> dict[str, Any]:
    """Return the connections that the user may read."""
    return {"connections": readable_connections(user)}


@router.get("/api/connections/{connection_id}/jobs", dependencies=READ_CONNECTION)
async def get_jobs(
    connection_id: str,
    user: GetUserDep,
    status: Annotated[list[str], Query(max_length=len(STATUSES))] = [],  # noqa: B006 - FastAPI copies it
    text: Annotated[str, Query(max_length=MAX_TEXT)] = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> Any:
    """Return some of the jobs that match, newest first."""
    result = await clusters.jobs_of(connection_id)
    found = await page_thread.compute(
        page_of, result.value, result.config.redact, statuses=status, text=text, offset=offset, limit=limit
    )
    await _link(found["jobs"], connection_id, result.config, user)
    return {**found, "age": result.age}


@router.get("/api/connections/{connection_id}/jobs/{job_id}", dependencies=READ_CONNECTION)
async def get_job(connection_id: str, job_id: str, user: GetUserDep) -> Any:
    """Return the details of a job."""
    valid_id = validate_job_id(job_id)
    job = await clusters.job_of(connection_id, valid_id)
    look = await clusters.look_at_failure(connection_id, valid_id, job)
    details = await page_thread.compute(details_of, job.value, job_id, job.config, look)
    await _link([details], connection_id, job.config, user)
    return details


@router.get("/api/connections/{connection_id}/jobs/{job_id}/log", dependencies=READ_CONNECTION)
async def get_log(connection_id: str, job_id: str, user: GetUserDep, after: After = "") -> Response:
    """Return what follows in the log of a job."""
    return await log_part(connection_id, validate_job_id(job_id), str(user.get_id()), after)


@router.get("/api/connections/{connection_id}/jobs/{job_id}/log/download", dependencies=READ_CONNECTION)
async def download_log(connection_id: str, job_id: str, user: GetUserDep) -> LogFile:
    """Return the current log of a job as a file."""
    return LogFile(PageHook(connection_id), validate_job_id(job_id), str(user.get_id()))


@router.post("/api/connections/{connection_id}/jobs/{job_id}/stop", dependencies=recorded("stop_ray_job"))
async def stop_job(connection_id: str, job_id: str) -> dict[str, Any]:
    """Request the stop of a job."""
    await clusters.stop_job(connection_id, validate_job_id(job_id))
    return {}


@router.get("/api/connections/{connection_id}/cluster", dependencies=READ_CONNECTION)
async def get_cluster(connection_id: str) -> dict[str, Any]:
    """Return the resources of the cluster, and what waits for them."""
    resources, jobs, tasks = await asyncio.gather(
        clusters.resources_of(connection_id),
        # What waits is an addition: without it the resources are still shown.
        _or_error(clusters.jobs_of(connection_id)),
        _or_error(clusters.waiting_tasks_of(connection_id)),
    )
    waiting = await page_thread.compute(_waiting, jobs, tasks)
    return {"resources": resources.value, "waiting": waiting, "age": resources.age}


@router.get("/api/connections/{connection_id}/applications", dependencies=READ_CONNECTION)
async def get_applications(connection_id: str) -> dict[str, Any]:
    """Return the Serve applications."""
    found = await clusters.applications_of(connection_id)
    return {"applications": found.value, "age": found.age}


@router.delete(
    # A path, since the name may contain a slash, which Starlette has decoded.
    "/api/connections/{connection_id}/applications/{name:path}",
    dependencies=recorded("delete_serve_application"),
)
async def delete_application(connection_id: str, name: str) -> dict[str, Any]:
    """Request the deletion of a Serve application."""
    await clusters.delete_application(connection_id, name)
    return {}


async def log_part(connection_id: str, job_id: JobId, user: str, after: str) -> Response:
    """Return a response with what follows in the log of a job."""
    text = await page_thread.run(readers.answer(connection_id, job_id, user, after))
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _or_error(result: Awaitable[clusters.ServiceResult]) -> clusters.ServiceResult | RayAgentError:
    try:
        return await result
    except RayAgentError as error:
        return error


def _waiting(
    jobs: clusters.ServiceResult | RayAgentError, tasks: clusters.ServiceResult | RayAgentError
) -> dict[str, Any]:
    """Return the jobs, tasks and actors that wait; those that are not known are ``None``, and ``error`` says why."""
    if isinstance(jobs, RayAgentError):
        return {"jobs": None, "tasks": None, "error": str(jobs)}
    pending = page_of(
        jobs.value, jobs.config.redact, statuses=(JobStatus.PENDING.value,), text="", offset=0, limit=WAITING_JOBS
    )
    if isinstance(tasks, RayAgentError):
        return {"jobs": pending, "tasks": None, "error": str(tasks)}
    return {"jobs": pending, "tasks": waiting_tasks(tasks.value, jobs.value, tasks.config.redact), "error": None}


async def _link(jobs: list[dict[str, Any]], connection_id: str, config: ServiceConfig, user: BaseUser) -> None:
    found = await clusters.following_tasks()
    following = found.of(connection_id, [job["job_id"] for job in jobs], config.job_namespace)
    await run_in_threadpool(
        add_task_links, jobs, config.job_namespace, following, lambda dag_ids: readable_dags(user, dag_ids)
    )
