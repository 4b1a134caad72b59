"""Every call of both hooks: what is sent, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.scripted import Answer, Application, Job, ScriptedAgent
from tests.scripted.routes import POLICY
from tests.unit.support import HOSTILE_IDS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import Connect

    Ask = Callable[..., Any]

EXTRA = {"user_token": "user-tok", "tenant": "acme", "headers": {"X-Key": "k-1"}}
SENT = {
    "authorization": TOKEN,
    "synapse-user": "Token user-tok",
    "synapse-tenant": "Token acme",
    "x-key": "k-1",
}

CALLS: list[tuple[str, tuple[str, ...], str]] = [
    ("list_jobs", (), "GET jobs/"),
    ("get_job", ("j1",), "GET jobs/j1/"),
    ("get_job_logs", ("j1",), "GET jobs/j1/logs/"),
    ("list_job_logs", ("j1",), "GET jobs/j1/logs/"),
    ("get_gatekeeping_policy", (), "GET resources/policy/"),
    ("stop_job", ("j1",), "POST jobs/j1/stop/"),
    ("list_nodes", (), "GET nodes/"),
    ("get_node", ("ab" * 28,), f"GET nodes/{'ab' * 28}/"),
    ("list_tasks", (), "GET tasks/"),
    ("get_task", ("cd" * 24,), f"GET tasks/{'cd' * 24}/"),
    ("list_serve_applications", (), "GET serve_applications/"),
    ("get_serve_application", ("app",), "GET serve_applications/app/"),
    ("delete_serve_application", ("app",), "DELETE serve_applications/app/"),
    ("get_gpu_status", (), "GET gpu_status/"),
    ("health_check", (), "GET health/"),
]


@pytest.mark.parametrize(("method", "arguments", "route"), CALLS)
def test_a_call_sends_its_request_with_every_header_and_returns_the_answer(
    method: str, arguments: tuple[str, ...], route: str, ask: Ask, connect: Connect
) -> None:
    job = Job("line\n", status="RUNNING")
    with ScriptedAgent(job, applications=[Application("app")], token=TOKEN, base_path="/api/v2") as agent:
        connect(agent, extra=EXTRA)
        answer = ask(method, *arguments)
        expected: dict[str, Any] = {
            "list_jobs": [job.as_details()],
            "get_job": job.as_details(),
            "get_job_logs": "line\n",
            "list_job_logs": "line\n",
            "get_gatekeeping_policy": POLICY,
            "stop_job": {"stopped": True},
            "list_nodes": agent.nodes,
            "get_node": agent.nodes[0],
            "list_tasks": agent.tasks,
            "get_task": agent.tasks[0],
            "list_serve_applications": [Application("app").as_details()],
            "get_serve_application": Application("app").as_details(),
            "delete_serve_application": None,
            "get_gpu_status": {"available": False, "gpus": []},
            "health_check": {"status": "ok"},
        }
        assert answer == expected[method]
        [request] = agent.requests
    assert request.route == route
    assert request.query == ""
    assert request.body == b""
    assert {name: request.headers.get(name) for name in SENT} == SENT


@pytest.mark.parametrize("method", ["list_jobs", "list_nodes", "list_tasks", "list_serve_applications"])
@pytest.mark.parametrize("items", [[], [{"name": "x"}]])
def test_a_list_may_come_in_results(method: str, items: list[Any], ask: Ask, connect: Connect) -> None:
    with ScriptedAgent(answers={"*": [Answer(200, {"count": 1, "results": items})]}) as agent:
        connect(agent)
        assert ask(method) == items


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_log_stream_sends_every_header_too(protocol: Any, connect: Connect) -> None:
    with ScriptedAgent(Job("line\n", status="RUNNING"), token=TOKEN) as agent:
        connect(agent, extra=EXTRA)
        with RayAgentHook() as hook:
            lines = hook.tail_job_logs("j1", protocol=protocol)
            assert next(iter(lines)) == "line"
            agent.jobs["j1"].set_status("SUCCEEDED")
            assert list(lines) == []
        route = "WS jobs/j1/logs/" if protocol == "websocket" else "GET jobs/j1/logs/stream/"
        assert {name: agent.of(route)[0].headers.get(name) for name in SENT} == SENT


ID_METHODS = ["get_job", "get_job_logs", "stop_job", "get_node", "get_task", "tail_job_logs", "websocket_tail_job_logs"]


@pytest.mark.parametrize("method", [*ID_METHODS, "stream_tail_job_logs"])
def test_a_hostile_id_is_refused_before_anything_is_sent(method: str, ask: Ask, connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        for value in HOSTILE_IDS:
            with pytest.raises(RayAgentInputError, match="id"):
                ask(method, value)
        assert (agent.connections, agent.requests) == (0, [])


@pytest.mark.parametrize("name", ["a/b", "/", "", "..", ".", "a\nb", None])
@pytest.mark.parametrize("method", ["get_serve_application", "delete_serve_application"])
def test_a_hostile_application_name_is_refused_before_anything_is_sent(
    method: str, name: Any, ask: Ask, connect: Connect
) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
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
def test_an_application_of_any_name_arrives_in_one_piece(name: str, path: str, ask: Ask, connect: Connect) -> None:
    others = [Application("other"), Application("a"), Application("my")]
    with ScriptedAgent(applications=[Application(name), *others]) as agent:
        connect(agent)
        assert ask("get_serve_application", name)["name"] == name
        ask("delete_serve_application", name)
        assert {app["name"] for app in ask("list_serve_applications")} == {app.name for app in others}
        assert [request.path for request in agent.requests[:2]] == [f"serve_applications/{path}/"] * 2
        assert [request.query for request in agent.requests] == [""] * 3


def test_leaving_the_hook_closes_every_connection_and_it_can_be_used_again(connect: Connect) -> None:
    with ScriptedAgent(Job("x\n")) as agent:
        connect(agent)
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
