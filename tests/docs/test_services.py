"""The table says of each task and each method of the hooks what each service can do; the code must agree."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from starlette.routing import Match

from airflow_provider_rayagent.errors.service_errors import RayAgentUnsupportedError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.local.asgi import Agent, create_app, unsupported_response
from airflow_provider_rayagent.local.job_logs import MAX_STREAMS
from airflow_provider_rayagent.local.jobqueue import JobQueue
from airflow_provider_rayagent.local.plugin_folder import PluginFolder
from airflow_provider_rayagent.local.ray_api import RayDashboard
from airflow_provider_rayagent.operators import rayagent as operators
from airflow_provider_rayagent.sensors import rayagent as sensors
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES
from airflow_provider_rayagent.working_dir.packing import MAX_BYTES
from tests.docs.conftest import PAGES, ROOT

if TYPE_CHECKING:
    from fastapi import FastAPI

    from airflow_provider_rayagent.services.service import Service

OTHER = {"aget_connection", "close", "follow_job", "get_async_conn", "get_conn", "test_connection"}
"""Methods that are not about a service, or that DAG authors do not use."""
OPERATIONS = dict.fromkeys(("upload_files", "upload_working_dir"), "upload_package")
"""Operations of a service that have another name than the method."""
LOGS = ("get_job_logs", "list_job_logs")
STREAMS = ("tail_job_logs", "websocket_tail_job_logs", "stream_tail_job_logs")
"""Methods that poll the log where there is no stream."""
REST = "all other tasks and methods"
LOCAL_HEALTH = {"accepts_submissions": True}
EXTENSIONS = {"submit_job": ("POST", "jobs/"), **dict.fromkeys(OPERATIONS, ("PUT", "packages/name.zip"))}
"""Requests that only the local agent has."""


class Row(NamedTuple):
    """What a table says of a task, or of methods of the hooks."""

    names: list[str]
    agent: str
    ray: str
    local: str


def rows() -> list[Row]:
    text = (PAGES / "connection.md").read_text(encoding="utf-8").partition("## What each service can do")[2]
    cells = re.findall(rf"^\| (`[^|]+`|{REST}) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return [Row(re.findall(r"`(\w+)`", names), *said) for names, *said in cells]


def methods_of(hook: type) -> set[str]:
    return {
        name
        for kind in hook.__mro__
        if kind.__module__.startswith("airflow_provider_rayagent.hooks")
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


METHODS = methods_of(RayAgentHook) - OTHER
TASKS = {*operators.__all__, *sensors.__all__}
NAMED = {name: row for row in rows() for name in row.names}
SAID = {name: NAMED.get(name, rows()[-1]) for name in METHODS | TASKS}
REQUESTS = {
    "RayAgentCapacitySensor": "get_cluster_resources",
    "RayAgentDeleteServeApplicationOperator": "delete_serve_application",
    "RayAgentJobSensor": "get_job",
    "RayAgentRunPluginOperator": "run_plugin_release",
    "RayAgentServeApplicationSensor": "get_serve_application",
    "RayAgentStopJobOperator": "stop_job",
    "RayAgentSubmitJobOperator": "submit_job",
}
"""The method of the hooks without which a task can't do its work."""


def operation_of(service: Service, method: str) -> Any:
    """Return what the service does for a method: a request, or a generator of requests."""
    if method in LOGS:
        return service.locate_log("job", {"driver_node_id": "ab" * 28})  # type: ignore[arg-type]
    operation: Any = getattr(service, OPERATIONS.get(method, method))
    required = [each for each in inspect.signature(operation).parameters.values() if each.default is each.empty]
    named = [each for each in required if each.kind is not each.VAR_POSITIONAL and each.kind is not each.VAR_KEYWORD]
    return operation(*[_argument(each.name) for each in named])


def _argument(name: str) -> Any:
    return {"task_id": "cd" * 24, "kind": "job", "num_cpus": 1.0}.get(name, "ab" * 28)


def is_supported(service: Service, method: str, health: dict[str, Any] | None = None) -> bool:
    """Return whether the service does it, up to its second request."""
    try:
        operation = operation_of(service, method)
        if isinstance(operation, Generator) and next(operation, None) == service.health_check():
            operation.send(health or {})
    except RayAgentUnsupportedError:
        return False
    return True


def local_app(plugins: PluginFolder | None) -> FastAPI:
    """Return the local agent's routes. Nothing listens at the address of its Ray."""
    ray = RayDashboard("http://127.0.0.1:1")
    agent = Agent(ray, JobQueue(ray, 1), asyncio.Event())
    return create_app(agent, "token", plugins)


def has_route(app: FastAPI, verb: str, path: str, kind: str = "http") -> bool:
    """Return whether a request leads to a route that the local agent supports."""
    scope = {"type": kind, "method": verb, "path": f"/{path.partition('?')[0]}", "headers": [], "root_path": ""}
    for route in app.routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return getattr(route, "endpoint", None) is not unsupported_response
    return False


def is_local(app: FastAPI, method: str) -> bool:
    """Return whether the local agent has the request of a method."""
    if method in EXTENSIONS:
        return is_supported(AGENT, method, LOCAL_HEALTH) and has_route(app, *EXTENSIONS[method])
    if not is_supported(AGENT, method):
        return False
    operation = operation_of(AGENT, method)
    if isinstance(operation, Generator):
        # The log needs no request before its own.
        with pytest.raises(StopIteration) as end:
            next(operation)
        operation = end.value.value
    assert isinstance(operation, Call)
    return has_route(app, operation.method, operation.path)


def test_both_hooks_have_the_same_methods() -> None:
    assert methods_of(RayAgentAsyncHook) - OTHER == METHODS


def test_the_table_names_what_exists() -> None:
    assert NAMED.keys() <= SAID.keys()
    assert rows()[-1] == Row([], "yes", "yes", "yes")
    assert REQUESTS.keys() == TASKS


@pytest.mark.parametrize("task", REQUESTS)
def test_a_service_can_do_a_task_exactly_if_it_has_the_request(task: str) -> None:
    assert SAID[task] == SAID[REQUESTS[task]]


def test_only_plain_ray_has_no_streams() -> None:
    assert AGENT.streams.sources == ("websocket", "http")
    assert RAY.streams is None
    assert all(SAID[method] == rows()[-1] for method in STREAMS)


@pytest.mark.parametrize("method", sorted(METHODS - {*STREAMS}))
def test_the_table_says_what_each_service_can_do(method: str) -> None:
    assert SAID[method].agent == ("yes" if is_supported(AGENT, method) else "no")
    assert SAID[method].ray == ("yes" if is_supported(RAY, method) else "no")


@pytest.mark.parametrize("method", sorted(METHODS - {*STREAMS}))
def test_the_table_says_what_the_local_agent_can_do(method: str) -> None:
    with_plugins = is_local(local_app(PluginFolder(ROOT / "example_dags" / "plugins")), method)
    without = is_local(local_app(None), method)
    if with_plugins == without:
        assert SAID[method].local == ("yes" if without else "no")
    else:
        assert SAID[method].local == "with `--plugins`"


def test_the_local_agent_has_both_live_logs() -> None:
    app = local_app(None)
    for source, kind in (("websocket", "websocket"), ("http", "http")):
        call = AGENT.streams.open("job", source)  # type: ignore[arg-type]
        assert has_route(app, "GET", call.path, kind)


def test_the_page_names_the_oldest_client() -> None:
    [oldest] = re.findall(r'"synapse-sdk>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert oldest in (PAGES / "connection.md").read_text(encoding="utf-8")


def test_the_limits_of_the_local_agent_are_those_of_the_code() -> None:
    text = " ".join((PAGES / "local-agent.md").read_text(encoding="utf-8").split())
    body, package = (limit // 1024**2 for limit in (MAX_BODY_BYTES, MAX_BYTES))
    assert f"sends at most {MAX_STREAMS} logs at a time" in text
    assert f"at most {body} MiB, the package of a `working_dir` {package} MiB" in text
