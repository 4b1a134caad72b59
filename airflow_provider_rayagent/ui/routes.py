"""The routes for one connection, or one of its clusters: its jobs, resources and Serve applications."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Query, Request
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
from airflow_provider_rayagent.ui.user_connections import ViewedService, readable_connections
from airflow_provider_rayagent.ui.viewed_logs import readers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.validation import JobId

EndpointT = TypeVar("EndpointT", bound="Callable[..., Any]")

router = APIRouter(default_response_class=JSONResponse)

MAX_TEXT = 200
WAITING_JOBS = 20
"""Of the jobs that wait, so many are shown with the cluster; all are counted."""
After = Annotated[str, Query(max_length=MAX_TEXT)]
"""``after`` of the last answer with a part of the log; see :meth:`.LogReader.answer`."""


PREFIXES = ("/api/connections/{connection_id}@{cluster}", "/api/connections/{connection_id}")
"""In this order: the second one matches the paths of the first one, too."""


async def viewed_service(request: Request, user: GetUserDep) -> ViewedService:
    """Return the service that a path names.

    :raises HTTPException: 404 for a cluster that no task names which the user may read and which has not ended: the
        token of the connection goes to no host that only a URL names.
    """
    viewed = ViewedService(request.path_params["connection_id"], request.path_params.get("cluster"))
    if viewed.cluster is not None and viewed not in await _readable_clusters(user):
        raise HTTPException(404, "No task that you may read and that has not ended uses this cluster.")
    return viewed


Viewed = Annotated[ViewedService, Depends(viewed_service)]


def _route(method: str, path: str, dependencies: Sequence[Any]) -> Callable[[EndpointT], EndpointT]:
    def add(endpoint: EndpointT) -> EndpointT:
        for prefix in PREFIXES:
            router.add_api_route(prefix + path, endpoint, methods=[method], dependencies=dependencies)
        return endpoint

    return add


@router.get("/api/connections", dependencies=SIGNED_IN)
async def get_connections(user: GetUserDep) -> dict[str, Any]:
    """Return the connections that the user may read, and the clusters of these that tasks use at present."""
    # Its database queries would block the API server.
    connections = await run_in_threadpool(readable_connections, user)
    readable = await _readable_clusters(user)
    used = (viewed.name for viewed in readable if viewed.connection_id in connections)
    return {"connections": sorted([*connections, *used])}


@_route("GET", "/jobs", READ_CONNECTION)
async def get_jobs(
    viewed: Viewed,
    user: GetUserDep,
    status: Annotated[list[str], Query(max_length=len(STATUSES))] = [],  # noqa: B006 - FastAPI copies it
    text: Annotated[str, Query(max_length=MAX_TEXT)] = "",
    orphans: bool = False,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> Any:
    """Return some of the jobs that match, newest first; of all jobs, or of the orphans."""
    result = await (clusters.orphans_of(viewed) if orphans else clusters.jobs_of(viewed))
    found = await page_thread.compute(
        page_of, result.value, result.config.redact, statuses=status, text=text, offset=offset, limit=limit
    )
    await _link(found["jobs"], viewed, result.config, user)
    return {**found, "age": result.age}


@_route("GET", "/jobs/{job_id}", READ_CONNECTION)
async def get_job(viewed: Viewed, job_id: str, user: GetUserDep) -> Any:
    """Return the details of a job."""
    valid_id = validate_job_id(job_id)
    job = await clusters.job_of(viewed, valid_id)
    look = await clusters.look_at_failure(viewed, valid_id, job)
    details = await page_thread.compute(details_of, job.value, job_id, job.config, look)
    await _link([details], viewed, job.config, user)
    return details


@_route("GET", "/jobs/{job_id}/log", READ_CONNECTION)
async def get_log(viewed: Viewed, job_id: str, user: GetUserDep, after: After = "") -> Response:
    """Return what follows in the log of a job."""
    return await log_part(viewed, validate_job_id(job_id), str(user.get_id()), after)


@_route("GET", "/jobs/{job_id}/log/download", READ_CONNECTION)
async def download_log(viewed: Viewed, job_id: str, user: GetUserDep) -> LogFile:
    """Return the current log of a job as a file."""
    return LogFile(viewed.hook(), validate_job_id(job_id), str(user.get_id()))


@_route("POST", "/jobs/{job_id}/stop", recorded("stop_ray_job"))
async def stop_job(viewed: Viewed, job_id: str) -> dict[str, Any]:
    """Request the stop of a job."""
    await clusters.stop_job(viewed, validate_job_id(job_id))
    return {}


@_route("GET", "/cluster", READ_CONNECTION)
async def get_cluster(viewed: Viewed) -> dict[str, Any]:
    """Return the resources of the cluster, and what waits for them."""
    resources, jobs, tasks = await asyncio.gather(
        clusters.resources_of(viewed),
        # What waits is an addition: without it the resources are still shown.
        _or_error(clusters.jobs_of(viewed)),
        _or_error(clusters.waiting_tasks_of(viewed)),
    )
    waiting = await page_thread.compute(_waiting, jobs, tasks)
    return {"resources": resources.value, "waiting": waiting, "age": resources.age}


@_route("GET", "/applications", READ_CONNECTION)
async def get_applications(viewed: Viewed) -> dict[str, Any]:
    """Return the Serve applications."""
    found = await clusters.applications_of(viewed)
    return {"applications": found.value, "age": found.age}


# A path, since the name may contain a slash, which Starlette has decoded.
@_route("DELETE", "/applications/{name:path}", recorded("delete_serve_application"))
async def delete_application(viewed: Viewed, name: str) -> dict[str, Any]:
    """Request the deletion of a Serve application."""
    await clusters.delete_application(viewed, name)
    return {}


async def log_part(viewed: ViewedService, job_id: JobId, user: str, after: str) -> Response:
    """Return a response with what follows in the log of a job."""
    text = await page_thread.run(readers.answer(viewed, job_id, user, after))
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _readable_clusters(user: BaseUser) -> set[ViewedService]:
    """Return the clusters that tasks use at present whose DAGs the user may read."""
    found = (await clusters.following_tasks()).clusters_by_dag()
    dag_ids = await run_in_threadpool(readable_dags, user, found) if found else ()
    return {viewed for dag_id in dag_ids for viewed in found[dag_id]}


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


async def _link(jobs: list[dict[str, Any]], viewed: ViewedService, config: ServiceConfig, user: BaseUser) -> None:
    found = await clusters.following_tasks()
    following = found.of(viewed, [job["job_id"] for job in jobs], config.job_namespace)
    await run_in_threadpool(
        add_task_links, jobs, config.job_namespace, following, lambda dag_ids: readable_dags(user, dag_ids)
    )
