"""The agent's routes over one Ray."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Security, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.client.agent_service import AUTHORIZATION_HEADER
from airflow_provider_rayagent.client.errors import RayAgentInputError
from airflow_provider_rayagent.client.gpus import gpu_status
from airflow_provider_rayagent.client.validation import validate_id
from airflow_provider_rayagent.local.access import TokenRequired, refuse
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.job_logs import JobLogs
from airflow_provider_rayagent.local.limits import BodyLimits, OwnRedirects
from airflow_provider_rayagent.local.plugin_routes import answer_missing_gpus, plugin_routes
from airflow_provider_rayagent.local.plugin_runs import GpuUnavailableError, PluginRuns
from airflow_provider_rayagent.local.spool import TURNS
from airflow_provider_rayagent.local.streams import EventStream, TextStream, stream_to_websocket
from airflow_provider_rayagent.local.whole_logs import WholeLogs

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.job_logs import Follower
    from airflow_provider_rayagent.local.jobqueue import JobQueue
    from airflow_provider_rayagent.local.plugins import PluginFolder
    from airflow_provider_rayagent.local.ray_api import RayDashboard
    from airflow_provider_rayagent.local.serve_delete import ServeDeleter

DESCRIPTION = """\
The wire of a Ray agent, served over a real Ray on this machine, for trying and testing.
It takes jobs by `POST /jobs/`, which is its own addition, and runs the plugins of a folder if it was given one;
what it cannot do it answers with 501.
Jobs are shown as Ray shows them, environment variables of their runtime environment included."""

NOT_HERE = ("plugin_releases", "builds", "containers", "resources", "system")
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class ErrorAnswer(BaseModel):
    """Every error of the agent."""

    detail: str


class SubmitRequest(BaseModel):
    """A job to submit, in the words of Ray's own submit call."""

    model_config = ConfigDict(extra="forbid")

    entrypoint: str = Field(min_length=1, description="Shell command that runs on the head node.")
    submission_id: str | None = Field(None, description="Id of the caller's choosing; Ray makes one up otherwise.")
    runtime_env: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = Field(None, description="Bytes.")
    entrypoint_resources: dict[str, float] | None = None
    entrypoint_label_selector: dict[str, str] | None = None


class Agent:
    """What the routes share.

    :param queue: jobs of plugins that are not on Ray.
    :param stopping: to be set when the server stops: open streams end.
    """

    def __init__(self, ray: RayDashboard, deleter: ServeDeleter, queue: JobQueue, stopping: asyncio.Event) -> None:
        self.ray = ray
        self.deleter = deleter
        self.queue = queue
        self.stopping = stopping
        turns = asyncio.Semaphore(TURNS)
        self.logs = JobLogs(ray, turns)
        self.whole_logs = WholeLogs(ray, turns)

    async def close(self) -> None:
        """Read no more logs."""
        await asyncio.gather(self.logs.close(), self.whole_logs.close())

    async def job(self, job_id: str) -> Row:
        """Return a job's details; a job that waits in the queue is not known.

        :raises RayAnswerError: 404 if there is no such job.
        """
        return self.queue.find(job_id) or await self.ray.get_job(job_id)

    async def jobs(self) -> list[Row]:
        """Return all jobs, without those that wait in the queue."""
        # An id of the queue's is nobody else's here, whatever was submitted to Ray under it.
        on_ray = [job for job in await self.ray.list_jobs() if not self.queue.has(job.get("submission_id") or "")]
        return [*on_ray, *self.queue.ended()]

    async def follow(self, job_id: str) -> Follower:
        """Return a follower of a job's live log; of a job that never was on Ray it is empty.

        :raises RayAnswerError: 404 if there is no such job, 400 if it is a driver that nobody submitted, 429 beyond the
            bounds of :class:`JobLogs`.
        """
        ended = self.queue.find(job_id)
        return self.logs.follow_ended(ended) if ended else await self.logs.follow(job_id)


def create_app(agent: Agent, token: str, plugins: PluginFolder | None) -> FastAPI:
    """Return the agent as an ASGI application.

    :param token: what every request must carry; see :class:`TokenRequired`.
    :param plugins: to run; ``None``: there are none.
    """
    # No page of its own for the description: it would load its scripts from elsewhere, and the token is typed there.
    app = FastAPI(title="Local Ray agent", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.agent = agent
    app.include_router(routes)
    app.add_api_websocket_route("/jobs/{job_id}/logs/", tail_over_websocket)
    if plugins is not None:
        app.include_router(
            plugin_routes(PluginRuns(plugins, agent.queue, agent.ray)),
            dependencies=[Security(_token_header)],
            responses={**_errors, **_unknown, **_taken},
        )
    for prefix in NOT_HERE:
        for path in (f"/{prefix}", f"/{prefix}/{{rest:path}}"):
            app.add_api_route(path, not_here, methods=METHODS, include_in_schema=False)
    app.add_exception_handler(RayAgentInputError, _answer_error)
    app.add_exception_handler(LocalAgentError, _answer_error)
    app.add_exception_handler(GpuUnavailableError, answer_missing_gpus)
    app.add_middleware(BodyLimits)
    app.add_middleware(TokenRequired, token=token)
    app.add_middleware(OwnRedirects)
    return app


def status_of(error: Exception) -> int:
    """Return the HTTP status that stands for an error."""
    if isinstance(error, (RayAgentInputError, RayAnswerError)):
        return error.status_code or 400
    return 503 if isinstance(error, RayUnavailableError) else 500


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_of(error))


def _agent(request: Request) -> Agent:
    agent: Agent = request.app.state.agent
    return agent


def _job_id(job_id: str) -> str:
    return validate_id(job_id, "job")


def _node_id(node_id: str) -> str:
    return validate_id(node_id, "node")


def _task_id(task_id: str) -> str:
    return validate_id(task_id, "task")


OurAgent = Annotated[Agent, Depends(_agent)]
JobId = Annotated[str, Depends(_job_id)]
NodeId = Annotated[str, Depends(_node_id)]
TaskId = Annotated[str, Depends(_task_id)]
Row = dict[str, Any]

_token_header = APIKeyHeader(name=AUTHORIZATION_HEADER, auto_error=False, description="The agent token, as it is.")
_unknown: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}
_taken: dict[int | str, dict[str, Any]] = {409: {"model": ErrorAnswer}}
_errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorAnswer} for code in (400, 401, 503)}
# A route returns a response, not rows. FastAPI would check those with pydantic, which fails on what is nested deeply,
# and a job's runtime environment may hold anything.
routes = APIRouter(dependencies=[Security(_token_header)], responses=_errors)


@routes.get("/health/", summary="Whether the token is right and Ray answers")
async def health(agent: OurAgent) -> JSONResponse:
    version = await agent.ray.health()
    ray = {"status": "ok", "version": version.get("ray_version"), "address": agent.ray.url}
    return JSONResponse({"status": "ok", "version": __version__, "ray": ray})


@routes.get("/jobs/", summary="All jobs, as Ray lists them")
async def list_jobs(agent: OurAgent) -> JSONResponse:
    return JSONResponse(await agent.jobs())


@routes.post("/jobs/", summary="Submit a job (an addition of the local agent)", responses=_taken)
async def submit_job(agent: OurAgent, job: SubmitRequest) -> JSONResponse:
    if job.submission_id is not None:
        agent.queue.refuse_known(validate_id(job.submission_id, "job"))
    return JSONResponse(await agent.ray.submit_job(job.model_dump(exclude_none=True)))


@routes.get("/jobs/{job_id}/", summary="Ray's details of one job", responses=_unknown)
async def get_job(agent: OurAgent, job_id: JobId) -> JSONResponse:
    return JSONResponse(await agent.job(job_id))


@routes.get(
    "/jobs/{job_id}/logs/",
    summary="All that a job has logged so far; as a WebSocket: its live log as JSON events",
    response_class=PlainTextResponse,
    responses=_unknown,
)
async def get_job_logs(agent: OurAgent, job_id: JobId) -> Response:
    if agent.queue.find(job_id):
        return PlainTextResponse("")
    blocks = agent.whole_logs.read(job_id)
    return TextStream(await anext(blocks, b""), blocks, agent.stopping)


@routes.get(
    "/jobs/{job_id}/logs/stream/",
    summary="A job's live log from its first byte, as server-sent events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}, **_unknown},
)
async def stream_job_logs(agent: OurAgent, job_id: JobId) -> EventStream:
    return EventStream(await agent.follow(job_id), agent.stopping)


@routes.post("/jobs/{job_id}/stop/", summary="Ask Ray to stop a job, or take it out of the queue", responses=_unknown)
async def stop_job(agent: OurAgent, job_id: JobId) -> JSONResponse:
    stopped = await agent.queue.stop(job_id)
    return JSONResponse(await agent.ray.stop_job(job_id) if stopped is None else {"stopped": stopped})


@routes.get("/nodes/", summary="All nodes, dead ones included")
async def list_nodes(agent: OurAgent) -> JSONResponse:
    return JSONResponse(await agent.ray.list_nodes())


@routes.get("/nodes/{node_id}/", summary="One node", responses=_unknown)
async def get_node(agent: OurAgent, node_id: NodeId) -> JSONResponse:
    return JSONResponse(_found(await agent.ray.get_node(node_id), f"Node {node_id}"))


@routes.get("/tasks/", summary="The tasks that Ray remembers, at most 10,000")
async def list_tasks(agent: OurAgent) -> JSONResponse:
    return JSONResponse(await agent.ray.list_tasks())


@routes.get("/tasks/{task_id}/", summary="The last attempt of one task, in detail", responses=_unknown)
async def get_task(agent: OurAgent, task_id: TaskId) -> JSONResponse:
    return JSONResponse(_found(await agent.ray.get_task(task_id), f"Task {task_id}"))


@routes.get("/serve_applications/", summary="All Serve applications")
async def list_serve_applications(agent: OurAgent) -> JSONResponse:
    return JSONResponse(await agent.ray.list_serve_applications())


@routes.get("/serve_applications/{name:path}/", summary="One Serve application", responses=_unknown)
async def get_serve_application(agent: OurAgent, name: str) -> JSONResponse:
    return JSONResponse(_found(await agent.ray.get_serve_application(name), f"Serve application {name!r}"))


@routes.delete(
    "/serve_applications/{name:path}/",
    summary="Delete one Serve application; answers once it is DELETING or gone",
    status_code=204,
    response_class=Response,
    responses=_unknown,
)
async def delete_serve_application(agent: OurAgent, name: str) -> Response:
    await agent.deleter.delete(name)
    return Response(status_code=204)


@routes.get("/gpu_status/", summary="GPUs of all living nodes")
async def get_gpu_status(agent: OurAgent) -> JSONResponse:
    nodes, usage = await asyncio.gather(agent.ray.list_nodes(), agent.ray.resource_usage())
    return JSONResponse(gpu_status(nodes, usage))


async def not_here(request: Request) -> JSONResponse:
    path = request.url.path
    if path.startswith("/plugin_releases"):
        detail = "The local agent has no plugin store. It runs the plugins of a folder: rayagent-local --plugins DIR."
    else:
        detail = "The local agent has no containers or policies. It takes jobs by POST /jobs/."
    return JSONResponse({"detail": detail}, 501)


async def tail_over_websocket(websocket: WebSocket, job_id: str) -> None:
    agent: Agent = websocket.app.state.agent
    try:
        follower = await agent.follow(validate_id(job_id, "job"))
    except (RayAgentInputError, LocalAgentError) as error:
        await refuse(websocket.scope, websocket.send, status_of(error), str(error))
        return
    await stream_to_websocket(websocket, follower, agent.stopping)


def _found(row: Row | None, what: str) -> Row:
    if row is None:
        raise RayAnswerError(f"{what} does not exist", 404)
    return row
