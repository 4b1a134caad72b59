"""The interface of a service in front of Ray, shared by blocking and asyncio code. Pure.

Transports, drivers, hooks and tasks use it to create requests and to decode responses, independent of the service.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.services.call import Call, FileContent, Operation, Steps
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.stream.bodies import LogBodyDecoder
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource


ServiceName = Literal["agent", "ray"]
# Those of the agent's client (``synapse_sdk/clients/agent/resources.py``).
ResourceKind = Literal["job", "serve", "container", "task"]
RESOURCE_KINDS: tuple[ResourceKind, ...] = ("job", "serve", "container", "task")
REJECTED = (401, 403)
"""Statuses that may mean that the token is out of date. Ray answers 403 to a wrong token, and 401 to none
(``ray/_private/authentication/http_token_authentication.py``); an agent, like all FastAPI
servers, answers 403 to a WebSocket handshake."""

LOOK_REQUEST_SECONDS = 3
"""Deadline for one of the requests of a look at Ray's records, all of which together have a few seconds."""


WAITING_STATE = "PENDING_NODE_ASSIGNMENT"
"""Ray's state of tasks, and of creations of actors, that wait for a node."""
MAX_ROWS = 10_000
"""Most rows that Ray's state API gives (``RAY_MAX_LIMIT_FROM_API_SERVER`` in ``util/state/common.py``)."""
JOB_SUPERVISOR = "JobSupervisor"
"""Class of the actor that starts a job (``dashboard/modules/job/job_supervisor.py``)."""


class Credential(NamedTuple):
    """A field of the connection that is sent as a header.

    :param header: name of the header.
    :param field: name of the field.
    :param prefix: prefix of the value in the header.
    :param is_secret: whether the value is redacted in messages.
    """

    header: str
    field: str
    prefix: str = ""
    is_secret: bool = True


class ErrorResponse(NamedTuple):
    """The meaning of a response with an error status.

    :param status: the HTTP status that stands for it.
    :param reason: the words of the service; empty if it has sent none.
    :param is_own: whether the body has a form of the service. If not, it is that of a proxy, or of another server at a
        wrong URL: nothing of it is shown, and 404 does not mean that a job or an application does not exist.
    """

    status: int
    reason: str = ""
    is_own: bool = True


def standard_phrase(status: int) -> str:
    """Return the words of the HTTP standard for a status; empty if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


DecodeEvent: TypeAlias = "Callable[..., Event]"
"""Return the event in one WebSocket message, or in the data of one server-sent event of a name."""


@dataclass(frozen=True)
class OpenLiveLog:
    """Open a live log stream.

    :param source: its protocol.
    :param call: the request that opens it.
    """

    source: StreamSource
    call: Call
    decode: DecodeEvent


class LogStreams(Protocol):
    """The live log streams of a service."""

    @property
    def sources(self) -> tuple[StreamSource, ...]:
        """The available protocols, in order of preference."""

    def open(self, job_id: JobId, source: StreamSource) -> Call:
        """Return the request that opens a live log stream."""

    def decode_event(self, data: str | bytes, name: str = "") -> Event:
        """Decode one WebSocket message, or the data of one server-sent event named ``name``."""


class NodeRecords(Protocol):
    """What a service tells about a node; ``None`` is what it does not tell."""

    def node_usage(self, node_id: str) -> Call | None:
        """Return the request for the :class:`.NodeUsage` of a node."""


class FailureRecords(NodeRecords, Protocol):
    """What a service tells about the failed parts of a job; ``None`` is what it does not tell."""

    def failed_tasks(self, driver_job_id: str, limit: int) -> Call:
        """Return the request for the failed attempts of a job's tasks."""

    def dead_actors(self, driver_job_id: str, limit: int) -> Call | None:
        """Return the request for a job's dead actors."""

    def nodes(self) -> Call:
        """Return the request for all nodes, dead ones included."""

    def attempts(self, task_id: str) -> Call | None:
        """Return the request for all attempts of a task."""

    def workers(self, node_id: str, pid: int | None, worker_id: str) -> Call | None:
        """Return the request for the record of a worker process, by its id or its node and pid."""

    def last_stderr_lines(self, node_id: str, *, file: str, pid: int | None, lines: int) -> Call | None:
        """Return the request for the last lines of a worker process's standard error, by its file or its pid."""


class ActivityRecords(NodeRecords, Protocol):
    """What a service tells about what runs and what waits; ``None`` is what it does not tell."""

    def waiting_tasks(self, driver_job_id: str, limit: int) -> Call:
        """Return the request for a job's tasks, and creations of actors, that wait for a node."""

    def running_tasks(self, driver_job_id: str, limit: int) -> Call:
        """Return the request for a job's tasks that run."""

    def running_attempts(self, driver_job_id: str) -> Call | None:
        """Return the request for the tasks of a job that run, without their details: up to :data:`MAX_ROWS`."""

    def pending_jobs(self) -> Call | None:
        """Return the request for the actors that are to start jobs."""

    def live_actors(self, limit: int) -> Call | None:
        """Return the request for the live actors of all jobs."""

    def tasks_of_all(self, limit: int) -> Call | None:
        """Return the request for the tasks of all jobs that run."""

    def placement_groups(self) -> Call | None:
        """Return the request for all placement groups."""

    def runtime_environments(self) -> Call | None:
        """Return the request for the runtime environments of all nodes."""

    def cluster_status(self) -> Call | None:
        """Return the request for what is in use and what the autoscaler does."""

    def executed_tasks(self) -> Call | None:
        """Return the request for how many tasks each worker has executed, ``{driver_job_id: {worker_id: count}}``."""

    def finished_tasks(self, driver_job_id: str) -> Call:
        """Return the request for how many tasks of a job have finished; its result is ``None`` if that is not known.

        Ray counts up to :data:`MAX_ROWS`.
        """

    def allows_stacks(self) -> Call | None:
        """Return the request for whether the service gives stacks of processes."""

    def stack(self, node_id: str, pid: int) -> Call | None:
        """Return the request for the Python stack of a process, as py-spy prints it."""


class Service(Protocol):
    """A service in front of a Ray cluster.

    A method that takes a job's id takes a checked one; every other argument is checked by the method, which raises
    :class:`RayAgentInputError`. What a service cannot do raises :class:`RayAgentUnsupportedError`.
    """

    @property
    def name(self) -> ServiceName:
        """The value of the connection's field ``service``."""

    @property
    def label(self) -> str:
        """Noun phrase for messages, such as ``the agent``."""

    @property
    def description(self) -> str:
        """What kind of service it is."""

    @property
    def credentials(self) -> Sequence[Credential]:
        """How requests say who sends them; the first one is the token."""

    def list_jobs(self) -> Call: ...
    def get_job(self, job_id: JobId) -> Call: ...
    def stop_job(self, job_id: JobId) -> Call: ...
    def delete_job(self, job_id: JobId) -> Call: ...
    def delete_ended_jobs(self, before: float) -> Operation:
        """Return the operation that deletes the jobs that ended before a time (ms since the epoch)."""

    def submit_job(self, entrypoint: str, **submission: Any) -> Operation:
        """Return the request of the hook's method of this name; see :func:`submission_body` for its arguments."""

    def upload_package(self, name: str, content: FileContent) -> Steps:
        """Return the operation that uploads a package unless the cluster has it; its result is whether it did."""

    def list_nodes(self) -> Operation: ...
    def get_node(self, node_id: str) -> Operation: ...
    def list_tasks(self) -> Operation: ...
    def list_waiting_tasks(self) -> Operation:
        """Return the request for tasks, at least for those that wait for a node (``PENDING_NODE_ASSIGNMENT``)."""

    def get_task(self, task_id: str) -> Operation: ...
    def list_serve_applications(self) -> Operation: ...
    def get_serve_application(self, name: str) -> Operation: ...
    def delete_serve_application(self, name: str) -> Operation: ...
    def get_gpu_status(self) -> Operation: ...
    def get_cluster_resources(self, use_cache: bool = True) -> Operation: ...
    def get_capacity(self) -> Operation:
        """Return the operation whose result is the part of the cluster's resources that takes few requests."""

    def check_feasibility(self, kind: str, num_cpus: float, **request: Any) -> Operation:
        """Return the request of the hook's method of this name, which has the other arguments."""

    def get_gatekeeping_policy(self) -> Operation: ...
    def health_check(self) -> Operation: ...
    def list_plugin_releases(self) -> Operation: ...
    def get_plugin_release(self, lookup: str) -> Operation: ...
    def run_plugin_release(
        self, lookup: str, action: str, params: Mapping[str, Any] | None = None, **body: Any
    ) -> Operation:
        """Return the request of the hook's method of this name, which has the other arguments."""

    def run_debug_plugin_release(self, action: str, params: Mapping[str, Any] | None = None, **body: Any) -> Operation:
        """Return the request of the hook's method of this name, which has the other arguments."""

    def check_usable(self) -> Operation:
        """Return the operation that fails if the user may not read jobs, or if the service's version is too old."""

    def identify(self) -> Steps:
        """Return the operation that tells whether this service answers: its identity, or ``None``."""

    def identity(self, health: Mapping[str, Any]) -> str:
        """Return what the service is and its version, from the result of :meth:`health_check`."""

    @property
    def failure_records(self) -> FailureRecords:
        """What it tells about the failed parts of a job."""

    @property
    def activity_records(self) -> ActivityRecords:
        """What it tells about what runs and what waits."""

    @property
    def streams(self) -> LogStreams | None:
        """Its live log streams, if it has any."""

    @property
    def log_interval(self) -> float | None:
        """Seconds between two readings of the whole log while there is no stream; ``None``: as the status is polled."""

    @property
    def can_read_last_lines(self) -> bool:
        """Whether it gives the last lines of a log alone."""

    def locate_log(
        self,
        job_id: JobId,
        job: Mapping[str, Any] | None = None,
        lines: int | None = None,
        # ``bool`` stands for a function that does nothing.
        on_details: Callable[[Mapping[str, Any]], object] = bool,
    ) -> Steps:
        """Return the operation that finds the request for the whole log; its result is ``None`` if nothing is logged.

        :param job: the job's details, if they are known.
        :param lines: request only so many lines at the end of the log.
        :param on_details: called with newer details, if they are requested.
        """

    def log_decoder(self, content_type: str) -> LogBodyDecoder:
        """Return a decoder for the body of the whole log."""

    def read_error(self, status: int, text: str) -> ErrorResponse:
        """Return the meaning of a response with an error status.

        :param text: the body, without white space around it.
        """

    def job_page(self, base_url: str) -> str:
        """Return the URL template of a job's page in the service, with ``{job_id}``, or an empty string."""
