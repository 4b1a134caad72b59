"""The agent as an ASGI application: its routes and error responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Security, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.errors.service_errors import CONFLICT, RayAgentError, RayAgentInputError
from airflow_provider_rayagent.local.errors import LocalAgentError, RayResponseError, RayUnavailableError
from airflow_provider_rayagent.local.job_logs import JobLogs, empty_log
from airflow_provider_rayagent.local.log_streams import EventStream, TextStream, stream_to_websocket
from airflow_provider_rayagent.local.plugin_runs import GpuUnavailableError, missing_gpus_response, plugin_routes
from airflow_provider_rayagent.local.request_limits import BodyLimits
from airflow_provider_rayagent.local.resource_routes import resource_routes
from airflow_provider_rayagent.local.token_check import TokenMiddleware, send_error
from airflow_provider_rayagent.services.agent_service import AUTHORIZATION_HEADER
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.service import MAX_ROWS
from airflow_provider_rayagent.services.state_api import rows_of
from airflow_provider_rayagent.services.validation import JobId, quote_segment, validate_id, validate_job_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator

    from airflow_provider_rayagent.local.jobqueue import JobQueue
    from airflow_provider_rayagent.local.plugin_folder import PluginFolder
    from airflow_provider_rayagent.local.ray_api import RayDashboard

DESCRIPTION = """\
The API of a Ray agent in front of a real Ray on this machine, for testing.
`POST /jobs/` submits jobs and `PUT /packages/NAME` uploads their files; these are extensions. With a plugin folder, it
also runs plugins. Routes that it does not support respond with 501.
Jobs have Ray's own fields, including the environment variables of their runtime environment."""

UNSUPPORTED_PREFIXES = ("plugin_releases", "builds", "containers", "resources", "system")
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class ErrorBody(BaseModel):
    """Body of every error response."""

    detail: str


class SubmitRequest(BaseModel):
    """A job to submit, with the fields of Ray's submit call."""

    model_config = ConfigDict(extra="forbid")

    entrypoint: str = Field(min_length=1, description="Shell command that runs on the head node.")
    submission_id: str | None = Field(None, description="Id of the job; Ray generates one by default.")
    runtime_env: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = Field(None, description="Bytes.")
    entrypoint_resources: dict[str, float] | None = None
    entrypoint_label_selector: dict[str, str] | None = None


class Agent:
    """State that the routes share.

    :param queue: plugin jobs that are not on Ray.
    :param stopping: set when the server stops; open streams then end.
    """

    def __init__(self, ray: RayDashboard, queue: JobQueue, stopping: asyncio.Event) -> None:
        self.ray = ray
        self.queue = queue
        self.stopping = stopping
        self.logs = JobLogs(ray)

    async def job(self, job_id: str) -> Row:
        """Return a job's details; a job that waits in the queue is unknown.

        :raises RayResponseError: 404 if there is no such job.
        """
        return self.queue.find(job_id) or await self.ray.get_job(job_id)

    async def jobs(self) -> list[Row]:
        """Return all jobs, without those that wait in the queue."""
        # An id in the queue belongs to the queue's job, even if another job was submitted to Ray under it.
        on_ray = [job for job in await self.ray.list_jobs() if not self.queue.has(job.get("submission_id") or "")]
        return [*on_ray, *self.queue.ended()]

    async def follow(self, job_id: str) -> AsyncGenerator[list[str], None]:
        """Return the events of a job's log, which is empty if the job was never on Ray; see :class:`JobLogs`."""
        return empty_log() if self.queue.find(job_id) else await self.logs.follow(job_id)


def create_app(agent: Agent, token: str, plugins: PluginFolder | None) -> FastAPI:
    """Return the agent as an ASGI application.

    :param token: token that every request must contain; see :class:`TokenMiddleware`.
    :param plugins: plugins to run; ``None``: no plugins.
    """
    # FastAPI's documentation pages load scripts from a CDN, and users type the token there.
    app = FastAPI(
        title="Local Ray agent",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.agent = agent
    app.include_router(routes)
    # Not with the other routes: their dependency APIKeyHeader needs a Request, which a WebSocket does not have.
    app.add_api_websocket_route("/jobs/{job_id}/logs/", tail_over_websocket)
    app.include_router(
        resource_routes(agent.ray, agent.queue), dependencies=[Security(_token_header)], responses=_common_errors
    )
    if plugins is not None:
        app.include_router(
            plugin_routes(plugins, agent.queue, agent.ray),
            dependencies=[Security(_token_header)],
            responses={**_common_errors, **_not_found, **_conflict},
        )
    # After all others, since the first route that matches counts.
    for prefix in UNSUPPORTED_PREFIXES:
        for path in (f"/{prefix}", f"/{prefix}/{{rest:path}}"):
            app.add_api_route(path, unsupported_response, methods=METHODS, include_in_schema=False)
    app.add_exception_handler(RayAgentError, _error_response)
    app.add_exception_handler(LocalAgentError, _error_response)
    app.add_exception_handler(GpuUnavailableError, missing_gpus_response)
    # The one that is added last is called first: without the token, no body is read.
    app.add_middleware(BodyLimits)
    app.add_middleware(TokenMiddleware, token=token)
    return app


def status_of(error: Exception) -> int:
    """Return the HTTP status for an error."""
    if isinstance(error, (RayAgentError, RayResponseError)):
        return error.status_code or 400
    return 503 if isinstance(error, RayUnavailableError) else 500


async def _error_response(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_of(error))


def _agent(request: Request) -> Agent:
    agent: Agent = request.app.state.agent
    return agent


def _job_id(job_id: str) -> JobId:
    return validate_job_id(job_id)


def _node_id(node_id: str) -> str:
    return validate_id(node_id, "node")


def _task_id(task_id: str) -> str:
    return validate_id(task_id, "task")


def _package_name(name: str) -> str:
    return quote_segment(name, "package name")


AgentDependency = Annotated[Agent, Depends(_agent)]
PathJobId = Annotated[JobId, Depends(_job_id)]
NodeId = Annotated[str, Depends(_node_id)]
TaskId = Annotated[str, Depends(_task_id)]
PackageName = Annotated[str, Depends(_package_name)]
Row = dict[str, Any]

# No error: TokenMiddleware checks the token. This only describes the header in the API description.
_token_header = APIKeyHeader(
    name=AUTHORIZATION_HEADER, auto_error=False, description="The agent token, without a scheme."
)
_not_found: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody}}
_conflict: dict[int | str, dict[str, Any]] = {CONFLICT: {"model": ErrorBody}}
_common_errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorBody} for code in (400, 401, 503)}
# Routes return responses instead of rows: FastAPI would validate rows with pydantic, which fails on deeply nested
# values, and a job's runtime environment can contain anything.
routes = APIRouter(dependencies=[Security(_token_header)], responses=_common_errors)


@routes.get("/health/", summary="Check that the token is right and Ray responds")
async def health(agent: AgentDependency) -> JSONResponse:
    ray = {"status": "ok", "version": await agent.ray.health(), "address": agent.ray.url}
    return JSONResponse({"status": "ok", "version": __version__, "ray": ray, "accepts_submissions": True})


@routes.get("/jobs/", summary="All jobs, as Ray lists them")
async def list_jobs(agent: AgentDependency) -> JSONResponse:
    return JSONResponse(await agent.jobs())


@routes.post("/jobs/", summary="Submit a job (an extension of the local agent)", responses=_conflict)
async def submit_job(agent: AgentDependency, job: SubmitRequest) -> JSONResponse:
    if job.submission_id is not None:
        # Ray cannot reject these ids: it does not know the jobs in the queue.
        agent.queue.check_unused(validate_job_id(job.submission_id))
    return JSONResponse(await agent.ray.submit_job(job.model_dump(exclude_none=True)))


@routes.get("/packages/{name}", summary="Check that Ray has a package (an extension)", responses=_not_found)
async def find_package(agent: AgentDependency, name: PackageName) -> Response:
    await agent.ray.find_package(name)
    return Response()


@routes.put("/packages/{name}", summary="Upload a package for runtime environments (an extension)")
async def upload_package(agent: AgentDependency, name: PackageName, request: Request) -> Response:
    await agent.ray.upload_package(name, await request.body())
    return Response()


@routes.get("/jobs/{job_id}/", summary="One job, as Ray describes it", responses=_not_found)
async def get_job(agent: AgentDependency, job_id: PathJobId) -> JSONResponse:
    return JSONResponse(await agent.job(job_id))


@routes.get(
    "/jobs/{job_id}/logs/",
    summary="A job's log so far; over a WebSocket: its live log as JSON events",
    response_class=PlainTextResponse,
    responses=_not_found,
)
async def get_job_logs(agent: AgentDependency, job_id: PathJobId) -> Response:
    if agent.queue.find(job_id):
        return PlainTextResponse("")
    blocks = agent.logs.whole(job_id)
    # The first block is awaited here, so that an error before it becomes a response with its own status.
    return TextStream(await anext(blocks, b""), blocks, agent.stopping)


@routes.get(
    "/jobs/{job_id}/logs/stream/",
    summary="A job's live log from the beginning, as server-sent events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}, **_not_found},
)
async def stream_job_logs(agent: AgentDependency, job_id: PathJobId) -> EventStream:
    return EventStream(await agent.follow(job_id), agent.stopping)


@routes.post("/jobs/{job_id}/stop/", summary="Stop a job on Ray, or remove it from the queue", responses=_not_found)
async def stop_job(agent: AgentDependency, job_id: PathJobId) -> JSONResponse:
    stopped = await agent.queue.stop(job_id)
    return JSONResponse(await agent.ray.run(RAY.stop_job(job_id)) if stopped is None else {"stopped": stopped})


@routes.get("/nodes/", summary="All nodes, including dead ones")
async def list_nodes(agent: AgentDependency) -> JSONResponse:
    return JSONResponse(await agent.ray.list_nodes())


@routes.get("/nodes/{node_id}/", summary="One node", responses=_not_found)
async def get_node(agent: AgentDependency, node_id: NodeId) -> JSONResponse:
    return JSONResponse(await agent.ray.run(RAY.get_node(node_id)))


@routes.get("/tasks/", summary="The tasks that Ray still lists, at most 10,000; with a filter in detail")
async def list_tasks(
    agent: AgentDependency,
    job_id: Annotated[str | None, Query(pattern=r"^[0-9a-fA-F]{8}$")] = None,
    state: Annotated[str | None, Query(pattern=r"^[A-Z_]+$")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = MAX_ROWS,
) -> JSONResponse:
    equals = {name: value for name, value in (("job_id", job_id), ("state", state)) if value is not None}
    return JSONResponse(await agent.ray.run(rows_of("tasks", limit=limit, detail=bool(equals), equals=equals)))


@routes.get("/tasks/{task_id}/", summary="Details of the last attempt of one task", responses=_not_found)
async def get_task(agent: AgentDependency, task_id: TaskId) -> JSONResponse:
    return JSONResponse(await agent.ray.run(RAY.get_task(task_id)))


@routes.get("/serve_applications/", summary="All Serve applications")
async def list_serve_applications(agent: AgentDependency) -> JSONResponse:
    return JSONResponse(await agent.ray.run(RAY.list_serve_applications()))


# `path`: the server decodes `%2F` before the routes are matched, and the name of an application may contain a slash.
@routes.get("/serve_applications/{name:path}/", summary="One Serve application", responses=_not_found)
async def get_serve_application(agent: AgentDependency, name: str) -> JSONResponse:
    return JSONResponse(await agent.ray.run(RAY.get_serve_application(name)))


@routes.delete(
    "/serve_applications/{name:path}/",
    summary="Delete one Serve application; responds once it is DELETING or gone",
    status_code=204,
    response_class=Response,
    responses=_not_found,
)
async def delete_serve_application(agent: AgentDependency, name: str) -> Response:
    await agent.ray.run(RAY.delete_serve_application(name))
    return Response(status_code=204)


@routes.get("/gpu_status/", summary="GPUs of all live nodes")
async def get_gpu_status(agent: AgentDependency) -> JSONResponse:
    return JSONResponse(await agent.ray.run(RAY.get_gpu_status()))


async def unsupported_response(request: Request) -> JSONResponse:
    path = request.url.path
    if path.startswith("/plugin_releases"):
        detail = "The local agent has no plugin store. To run plugins from a folder: rayagent-local --plugins DIR."
    else:
        detail = "The local agent has no containers, and its policy cannot be changed. Submit jobs with POST /jobs/."
    return JSONResponse({"detail": detail}, 501)


async def tail_over_websocket(websocket: WebSocket, job_id: str) -> None:
    agent: Agent = websocket.app.state.agent
    try:
        events = await agent.follow(validate_job_id(job_id))
    except (RayAgentInputError, LocalAgentError) as error:
        await send_error(websocket.scope, websocket.send, status_of(error), str(error))
        return
    await stream_to_websocket(websocket, events, agent.stopping)
