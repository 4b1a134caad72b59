"""The Ray agent as a service. Pure.

The agent's server is not public; its API is known from its Python client, ``synapse_sdk.clients.agent``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError, RayAgentUnsupportedError, preparation
from airflow_provider_rayagent.services import plugins, ray_responses
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.cluster_resources import checked_resources, feasibility_body
from airflow_provider_rayagent.services.service import (
    LOOK_REQUEST_SECONDS,
    MAX_ROWS,
    WAITING_STATE,
    Credential,
    ErrorResponse,
    standard_phrase,
)
from airflow_provider_rayagent.services.submission import check_release, submission_steps, upload_steps
from airflow_provider_rayagent.services.validation import quote_application_name, validate_id
from airflow_provider_rayagent.stream.bodies import LogBodyDecoder
from airflow_provider_rayagent.stream.events import decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.services.call import FileContent, Steps
    from airflow_provider_rayagent.services.service import ServiceName
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource

AUTHORIZATION_HEADER = "Authorization"
USER_HEADER = "SYNAPSE-User"
TENANT_HEADER = "SYNAPSE-Tenant"
RAYS_LIMIT = 100
"""Rows that Ray's state API gives unless it is asked for more (``DEFAULT_LIMIT`` in ``util/state/common.py``)."""


class AgentStreams:
    """See :class:`LogStreams`."""

    sources: tuple[StreamSource, ...] = ("websocket", "http")

    def open(self, job_id: JobId, source: StreamSource) -> Call:
        # FastAPI answers a path without the last slash with 307, and over WebSocket with 403.
        return Call("GET", f"jobs/{job_id}/logs/" if source == "websocket" else f"jobs/{job_id}/logs/stream/", "text")

    def decode_event(self, data: str | bytes, name: str = "") -> Event:
        return decode_event(data, name)


class AgentFailureRecords:
    """See :class:`.FailureRecords`. The agent's API lists no actors, processes or their logs."""

    def failed_tasks(self, driver_job_id: str, limit: int) -> Call:
        return _tasks_in(driver_job_id, "FAILED", limit)

    def nodes(self) -> Call:
        return Call("GET", "nodes/", "list", read_timeout=LOOK_REQUEST_SECONDS)

    def attempts(self, task_id: str) -> Call:
        # Its last attempt.
        call = AGENT.get_task(task_id)
        return replace(call, convert=lambda task: [task], read_timeout=LOOK_REQUEST_SECONDS)

    def dead_actors(self, *_: Any) -> None:
        return None

    workers = node_usage = dead_actors

    def last_stderr_lines(self, *_: Any, **__: Any) -> None:
        return None


class AgentActivityRecords:
    """See :class:`.ActivityRecords`. The agent's API lists no actors, placement groups, environments or processes."""

    def waiting_tasks(self, driver_job_id: str, limit: int) -> Call:
        return _tasks_in(driver_job_id, WAITING_STATE, limit)

    def running_tasks(self, driver_job_id: str, limit: int) -> Call:
        return _tasks_in(driver_job_id, "RUNNING", limit)

    def running_attempts(self, driver_job_id: str) -> Call:
        return self.running_tasks(driver_job_id, MAX_ROWS)

    def finished_tasks(self, driver_job_id: str) -> Call:
        def convert(rows: list[dict[str, Any]]) -> int | None:
            # An agent that ignores the filters, or has a limit of its own, such as Ray's, does not list them all.
            is_filtered = all(_is_in(row, driver_job_id, "FINISHED") for row in rows)
            return len(rows) if is_filtered and len(rows) < MAX_ROWS and len(rows) != RAYS_LIMIT else None

        return replace(_tasks_in(driver_job_id, "FINISHED", MAX_ROWS), convert=convert)

    def pending_jobs(self) -> None:
        return None

    executed_tasks = placement_groups = runtime_environments = cluster_status = allows_stacks = pending_jobs

    def live_actors(self, limit: int) -> None:  # noqa: ARG002
        return None

    tasks_of_all = live_actors

    def node_usage(self, node_id: str) -> None:  # noqa: ARG002
        return None

    def stack(self, node_id: str, pid: int) -> None:  # noqa: ARG002
        return None


def _tasks_in(driver_job_id: str, state: str, limit: int) -> Call:
    """Return the request for a job's tasks in a state."""

    def convert(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if _is_in(row, driver_job_id, state)][:limit]

    # The local agent takes these filters, and adds the details; an agent that does not know them ignores them.
    query = urlencode({"job_id": driver_job_id, "state": state, "limit": limit})
    return Call("GET", f"tasks/?{query}", "list", convert=convert, read_timeout=LOOK_REQUEST_SECONDS)


def _is_in(task: Mapping[str, Any], driver_job_id: str, state: str) -> bool:
    return task.get("job_id") == driver_job_id and task.get("state") == state


class AgentService:
    """See :class:`Service`."""

    name: ServiceName = "agent"
    label = "the agent"
    description = "a Ray agent"
    streams = AgentStreams()
    log_interval = None
    # No request of the agent's API takes an offset or a number of lines: each reading of the log is one of all of it.
    can_read_last_lines = False
    failure_records = AgentFailureRecords()
    activity_records = AgentActivityRecords()
    credentials = (
        # The agent takes its token without a scheme such as Bearer, the two others with the scheme Token.
        Credential(AUTHORIZATION_HEADER, "password"),
        Credential(USER_HEADER, "user_token", "Token "),
        Credential(TENANT_HEADER, "tenant", "Token ", is_secret=False),
    )

    def list_jobs(self) -> Call:
        return Call("GET", "jobs/", "list")

    def get_job(self, job_id: JobId) -> Call:
        return Call("GET", f"jobs/{job_id}/")

    def stop_job(self, job_id: JobId) -> Call:
        return Call("POST", f"jobs/{job_id}/stop/")

    def delete_job(self, _: JobId) -> NoReturn:
        raise _no_deletion()

    def delete_ended_jobs(self, _: float) -> NoReturn:
        raise _no_deletion()

    def submit_job(self, entrypoint: str, **submission: Any) -> Steps:
        with preparation():
            health = yield from self._check_local()
            ray = health.get("ray")
            check_release(str(ray.get("version")) if isinstance(ray, dict) else "", submission)
        return (yield from submission_steps("jobs/", self.list_nodes(), entrypoint, **submission))

    def upload_package(self, name: str, content: FileContent) -> Steps:
        yield from self._check_local()
        # An extension of the local agent, whose route has no last slash (``local/asgi.py``).
        return (yield from upload_steps(f"packages/{name}", content))

    def _check_local(self) -> Steps:
        """Return the health of the local agent of this package; other agents do not have submissions."""
        health = yield self.health_check()
        if health.get("accepts_submissions") is not True:
            raise RayAgentUnsupportedError(
                "An agent runs plugins only: use RayAgentRunPluginOperator, or a connection to Ray's own dashboard."
            )
        return health

    def list_nodes(self) -> Call:
        return Call("GET", "nodes/", "list")

    def get_node(self, node_id: str) -> Call:
        return Call("GET", f"nodes/{validate_id(node_id, 'node')}/")

    def list_tasks(self) -> Call:
        return Call("GET", "tasks/", "list")

    def list_waiting_tasks(self) -> Call:
        # The agent's API has no filter for tasks.
        return self.list_tasks()

    def get_task(self, task_id: str) -> Call:
        return Call("GET", f"tasks/{validate_id(task_id, 'task')}/")

    def list_serve_applications(self) -> Call:
        return Call("GET", "serve_applications/", "list")

    def get_serve_application(self, name: str) -> Call:
        return Call("GET", f"serve_applications/{quote_application_name(name)}/")

    def delete_serve_application(self, name: str) -> Call:
        return Call("DELETE", f"serve_applications/{quote_application_name(name)}/", "nothing")

    def get_gpu_status(self) -> Call:
        return Call("GET", "gpu_status/")

    def get_cluster_resources(self, use_cache: bool = True) -> Call:
        return Call("GET", f"resources/cluster/?use_cache={'true' if use_cache else 'false'}")

    def get_capacity(self) -> Steps:
        try:
            return (yield replace(self.get_cluster_resources(), convert=checked_resources))
        except RayAgentNotFoundError:
            raise RayAgentUnsupportedError(
                "The agent does not report the resources of its cluster (404 for resources/cluster/): it may be old."
            ) from None

    def check_feasibility(self, kind: str, num_cpus: float, **request: Any) -> Call:
        return Call("POST", "resources/feasibility/", body=feasibility_body(kind, num_cpus, **request))

    def get_gatekeeping_policy(self) -> Call:
        return Call("GET", "resources/policy/")

    def health_check(self) -> Call:
        return Call("GET", "health/")

    def list_plugin_releases(self) -> Call:
        return Call("GET", "plugin_releases/", "list")

    def get_plugin_release(self, lookup: str) -> Call:
        # Without a trailing slash, like the agent's client; an agent that requires one redirects.
        return Call("GET", f"plugin_releases/{plugins.quote_lookup(lookup)}")

    def run_plugin_release(
        self, lookup: str, action: str, params: Mapping[str, Any] | None = None, **body: Any
    ) -> Call:
        path = f"plugin_releases/{plugins.quote_lookup(lookup)}/run/"
        # The form of the response is not known, and by now the action may have been started: whatever it is, it is no
        # error.
        return Call("POST", path, "any", plugins.run_body(action, params, **body))

    def run_debug_plugin_release(
        self,
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        plugin_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        modules: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Call:
        sent = plugins.run_body(action, params, **body)
        sent |= plugins.debug_body(plugin_path, config, modules)
        return Call("POST", "plugin_releases/run_debug/", "any", sent)

    def check_usable(self) -> Steps:
        """See :class:`Service`; the health requires the token as well, and every version is usable."""
        yield from ()

    def identify(self) -> Steps:
        health = yield self.health_check()
        return self.identity(health) if health.keys() & {"status", "version", "agent_version", "ray"} else None

    def identity(self, health: Mapping[str, Any]) -> str:
        version = health.get("version") or health.get("agent_version")
        return f"agent {version}" if isinstance(version, str) else "an agent"

    def locate_log(
        self,
        job_id: JobId,
        job: Mapping[str, Any] | None = None,  # noqa: ARG002
        lines: int | None = None,  # noqa: ARG002
        on_details: Callable[[Mapping[str, Any]], object] = bool,  # noqa: ARG002
    ) -> Steps:
        yield from ()
        return Call("GET", f"jobs/{job_id}/logs/", "text")

    def log_decoder(self, content_type: str) -> LogBodyDecoder:
        return LogBodyDecoder(content_type)

    def read_error(self, status: int, text: str) -> ErrorResponse:
        words = _error_words(status, text)
        return ErrorResponse(status, is_own=False) if words is None else ErrorResponse(status, words)

    def job_page(self, base_url: str) -> str:  # noqa: ARG002
        return ""


def _error_words(status: int, text: str) -> str | None:
    """Return what the agent says in the body of an error status; ``None`` if the body has none of its forms.

    These are FastAPI's (``detail``), Ray's or the agent's own (``message``, ``error_type``), an empty body, Starlette's
    words for the status, and those of Ray for an unknown job, which an agent may pass on.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text if text in ("", standard_phrase(status)) or ray_responses.says_missing(text) else None
    detail = value.get("detail") if isinstance(value, dict) else None
    # FastAPI's 422: a list of problems.
    if isinstance(detail, list) and detail and all(map(_is_problem, detail)):
        return "; ".join(map(_problem, detail))
    parts = detail if isinstance(detail, dict) else value
    named = (parts.get(name) for name in ("detail", "message", "error_type")) if isinstance(parts, dict) else ()
    return next((words for words in named if isinstance(words, str)), None)


def _is_problem(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("msg"), str)


def _problem(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in loc) if isinstance(loc := item.get("loc"), list) else ""
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _no_deletion() -> RayAgentUnsupportedError:
    return RayAgentUnsupportedError("An agent deletes no jobs: use a connection to Ray's own dashboard.")


AGENT = AgentService()
