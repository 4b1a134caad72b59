"""The page's table says of each method of the hooks what each service can do; the code must agree."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.client.agent_service import AGENT
from airflow_provider_rayagent.client.errors import RayAgentInputError, RayAgentUnsupportedError
from airflow_provider_rayagent.client.ray_service import RAY
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.service import Service

PAGE = Path(__file__).parents[2] / "docs" / "plain-ray.md"
OTHER = {"aget_connection", "close", "follow_job", "get_async_conn", "get_conn", "test_connection"}
"""Methods that are not about a service, or that DAG authors do not use."""
OPERATIONS = {"upload_working_dir": "upload_package"}
"""Operations of a service that have another name than the method."""
LOGS = ("get_job_logs", "list_job_logs")
POLLING = "by polling the log"
STREAMS = {
    "tail_job_logs": "WebSocket, server-sent events, or by polling the log",
    "websocket_tail_job_logs": "yes",
    "stream_tail_job_logs": "yes",
}


def rows() -> dict[str, tuple[str, str]]:
    """Return what the table says of each method: over an agent, and over plain Ray."""
    found = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {method: (agent, ray) for methods, agent, ray in found for method in re.findall(r"\w+", methods)}


def is_supported(service: Service, method: str) -> bool:
    if method in LOGS:
        return inspect.isgenerator(service.locate_log(None))  # type: ignore[arg-type]
    operation: Any = getattr(service, OPERATIONS.get(method, method))
    required = [each for each in inspect.signature(operation).parameters.values() if each.default is each.empty]
    named = [each for each in required if each.kind is not each.VAR_POSITIONAL and each.kind is not each.VAR_KEYWORD]
    try:
        operation(*["ab" * 28 if each.name != "task_id" else "cd" * 24 for each in named])
    except RayAgentUnsupportedError:
        return False
    except RayAgentInputError:
        return True
    return True


@pytest.mark.parametrize("hook", [RayAgentHook, RayAgentAsyncHook])
def test_the_table_has_every_method_of_the_hooks(hook: type) -> None:
    methods = {
        name
        for kind in hook.__mro__
        if kind.__module__.startswith("airflow_provider_rayagent.hooks")
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }

    assert set(rows()) == methods - OTHER


@pytest.mark.parametrize("method", rows())
def test_the_table_says_what_each_service_can_do(method: str) -> None:
    over_agent, over_ray = rows()[method]

    if method in STREAMS:
        assert AGENT.streams.sources == ("websocket", "http")
        assert RAY.streams is None
        assert (over_agent, over_ray) == (STREAMS[method], POLLING)
        return
    assert over_agent.partition(",")[0] == ("yes" if is_supported(AGENT, method) else "no")
    assert over_ray.partition(",")[0] == ("yes" if is_supported(RAY, method) else "no")
