"""Every call of both hooks: what is sent, and what comes back."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.scripted import Answer, Application, Job, ScriptedAgent
from tests.scripted.routes import POLICY
from tests.unit.support import HOSTILE_IDS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Serve

APP = Application("app")
EXTRA = {"user_token": "user-tok", "tenant": "acme", "headers": {"X-Key": "k-1"}}
SENT = {
    "authorization": TOKEN,
    "synapse-user": "Token user-tok",
    "synapse-tenant": "Token acme",
    "x-key": "k-1",
}

CALLS: list[tuple[str, tuple[str, ...], str, Callable[[ScriptedAgent], object]]] = [
    ("list_jobs", (), "GET jobs/", lambda agent: [agent.jobs["j1"].as_details()]),
    ("get_job", ("j1",), "GET jobs/j1/", lambda agent: agent.jobs["j1"].as_details()),
    ("get_job_logs", ("j1",), "GET jobs/j1/logs/", lambda agent: "line\n"),
    ("list_job_logs", ("j1",), "GET jobs/j1/logs/", lambda agent: "line\n"),
    ("get_gatekeeping_policy", (), "GET resources/policy/", lambda agent: POLICY),
    ("stop_job", ("j1",), "POST jobs/j1/stop/", lambda agent: {"stopped": True}),
    ("list_nodes", (), "GET nodes/", lambda agent: agent.nodes),
    ("get_node", ("ab" * 28,), f"GET nodes/{'ab' * 28}/", lambda agent: agent.nodes[0]),
    ("list_tasks", (), "GET tasks/", lambda agent: agent.tasks),
    ("get_task", ("cd" * 24,), f"GET tasks/{'cd' * 24}/", lambda agent: agent.tasks[0]),
    ("list_serve_applications", (), "GET serve_applications/", lambda agent: [APP.as_details()]),
    ("get_serve_application", ("app",), "GET serve_applications/app/", lambda agent: APP.as_details()),
    ("delete_serve_application", ("app",), "DELETE serve_applications/app/", lambda agent: None),
    ("get_gpu_status", (), "GET gpu_status/", lambda agent: {"available": False, "gpus": []}),
    ("health_check", (), "GET health/", lambda agent: {"status": "ok"}),
]


@pytest.mark.parametrize(("method", "arguments", "route", "expected"), CALLS)
def test_a_call_sends_its_request_with_every_header_and_returns_the_answer(
    method: str, arguments: tuple[str, ...], route: str, expected: Any, ask: Ask, serve: Serve
) -> None:
    job = Job("line\n", status="RUNNING")
    agent = serve(job, applications=[Application("app")], token=TOKEN, base_path="/api/v2", extra=EXTRA)
    values = expected(agent)
    assert ask(method, *arguments) == values
    [request] = agent.requests
    assert (request.route, request.query, request.body) == (route, "", b"")
    assert {name: request.headers.get(name) for name in SENT} == SENT


@pytest.mark.parametrize("method", ["list_jobs", "list_nodes", "list_tasks", "list_serve_applications"])
@pytest.mark.parametrize("items", [[], [{"name": "x"}]])
def test_a_list_may_come_in_results(method: str, items: list[Any], ask: Ask, serve: Serve) -> None:
    serve(answers={"*": [Answer(200, {"count": 1, "results": items})]})
    assert ask(method) == items


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_log_stream_sends_every_header_too(protocol: Any, serve: Serve) -> None:
    agent = serve(Job("line\n", status="RUNNING"), token=TOKEN, extra=EXTRA)
    with RayAgentHook() as hook:
        lines = hook.tail_job_logs("j1", protocol=protocol)
        assert next(iter(lines)) == "line"
        agent.jobs["j1"].set_status("SUCCEEDED")
        assert list(lines) == []
    route = "WS jobs/j1/logs/" if protocol == "websocket" else "GET jobs/j1/logs/stream/"
    assert {name: agent.of(route)[0].headers.get(name) for name in SENT} == SENT


ID_METHODS = ["get_job", "get_job_logs", "stop_job", "get_node", "get_task"]
STREAMS = ["tail_job_logs", "websocket_tail_job_logs", "stream_tail_job_logs"]


@pytest.mark.parametrize(
    ("service", "method"), [*product(["agent", "ray"], ID_METHODS), *product(["agent"], STREAMS)], ids=str
)
def test_a_hostile_id_is_refused_before_anything_is_sent(service: str, method: str, ask: Ask, serve: Serve) -> None:
    agent = serve(Job(), service=service)
    for value in HOSTILE_IDS:
        with pytest.raises(RayAgentInputError, match="id"):
            ask(method, value)
    assert (agent.connections, agent.requests) == (0, [])


@pytest.mark.parametrize(
    ("service", "names"),
    [("agent", ["a/b", "/", "", "..", ".", "a\nb", None]), ("ray", ["", "a\nb", "\ud800", None])],
    ids=["agent", "ray"],
)
@pytest.mark.parametrize("method", ["get_serve_application", "delete_serve_application"])
def test_a_hostile_application_name_is_refused_before_anything_is_sent(
    method: str, service: str, names: list[Any], ask: Ask, serve: Serve
) -> None:
    agent = serve(service=service)
    for name in names:
        with pytest.raises(RayAgentInputError, match="application name"):
            ask(method, name)
    assert agent.connections == 0


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("my app", "my%20app"),
        ("漢é", "%E6%BC%A2%C3%A9"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("a+b;c", "a%2Bb%3Bc"),
        ("...", "..."),
        ("~x", "~x"),
        ("a:b@c", "a%3Ab%40c"),
    ],
)
def test_an_application_of_any_name_arrives_in_one_piece(name: str, path: str, ask: Ask, serve: Serve) -> None:
    others = [Application("other"), Application("a"), Application("my")]
    agent = serve(applications=[Application(name), *others])
    assert ask("get_serve_application", name)["name"] == name
    ask("delete_serve_application", name)
    assert {app["name"] for app in ask("list_serve_applications")} == {app.name for app in others}
    assert [request.path for request in agent.requests[:2]] == [f"serve_applications/{path}/"] * 2
    assert [request.query for request in agent.requests] == [""] * 3


def test_leaving_the_hook_closes_every_connection_and_it_can_be_used_again(serve: Serve) -> None:
    agent = serve(Job("x\n"))
    hook = RayAgentHook()
    hook.close()
    assert agent.connections == 0
    for _ in range(2):
        with hook:
            assert hook.health_check() == {"status": "ok"}
            assert hook.get_job_logs("j1") == "x\n"
            assert list(hook.tail_job_logs("j1")) == ["x"]
            with pytest.raises(Exception, match="404"):
                hook.get_job("unknown")
        agent.wait_until(lambda: agent.open_connections == 0)
    assert agent.connections <= 6
