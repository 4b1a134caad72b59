"""Every call of both hooks over a connection to Ray's own dashboard."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentUnsupportedError
from airflow_provider_rayagent.exceptions import (
    RayAgentConfigError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentTimeoutError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.services import ray_service
from tests.scripted import DEFAULT, Answer, Application, Html, Job, Play, Reset, ScriptedAgent, ray_dialect
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Request, Step
    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Connect, Serve

NODE, TASK, UNKNOWN = "ab" * 28, "cd" * 24, "ef" * 28
NODES = [
    {
        "node_id": NODE,
        "node_ip": "127.0.0.1",
        "state": "ALIVE",
        "resources_total": {"GPU": 2.0, "accelerator_type:A100": 1.0},
    }
]
TASKS = [
    {"task_id": TASK, "attempt_number": 0, "state": "FAILED"},
    {"task_id": TASK, "attempt_number": 1, "state": "FINISHED"},
]
LOG = "GET jobs/j1/logs/"
SUBMIT = "POST jobs/"
APP = Application("my app")
GPUS = {"total": 2.0, "used": 0.0, "available": 2.0}
GPU_STATUS = {
    **{f"{name}_gpus": number for name, number in GPUS.items()},
    "nodes": [{"node_id": NODE, "node_ip": "127.0.0.1", **GPUS, "types": ["A100"]}],
}
HEALTH: dict[str, Any] = {"status": "ok", "ray": {"status": "ok", "version": "2.60.0", "session_name": "session_1"}}
CALLS: list[tuple[str, tuple[str, ...], list[str], Callable[[Job], object]]] = [
    ("list_jobs", (), ["GET api/jobs/"], lambda job: [job.as_details()]),
    ("get_job", ("j1",), ["GET api/jobs/j1"], lambda job: job.as_details()),
    ("get_job_logs", ("j1",), ["GET api/jobs/j1", "GET api/v0/logs/file"], lambda job: "line\n"),
    ("list_job_logs", ("j1",), ["GET api/jobs/j1", "GET api/v0/logs/file"], lambda job: "line\n"),
    ("stop_job", ("j1",), ["POST api/jobs/j1/stop"], lambda job: {"stopped": True}),
    ("list_nodes", (), ["GET api/v0/nodes"], lambda job: NODES),
    ("get_node", (NODE,), ["GET api/v0/nodes"], lambda job: NODES[0]),
    ("get_node", (NODE.upper(),), ["GET api/v0/nodes"], lambda job: NODES[0]),
    ("list_tasks", (), ["GET api/v0/tasks"], lambda job: TASKS),
    ("get_task", (TASK,), ["GET api/v0/tasks"], lambda job: TASKS[1]),
    ("list_serve_applications", (), ["GET api/serve/applications/"], lambda job: [APP.as_details()]),
    ("get_serve_application", ("my app",), ["GET api/serve/applications/"], lambda job: APP.as_details()),
    ("get_gpu_status", (), ["GET api/v0/nodes", "GET api/cluster_status"], lambda job: GPU_STATUS),
    ("health_check", (), ["GET api/version", "GET api/gcs_healthz"], lambda job: HEALTH),
]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_service, "DELETE_SECONDS", 0.3)
    monkeypatch.setattr(ray_service, "DELETE_POLL_SECONDS", 0.05)


@pytest.mark.parametrize(("method", "arguments", "sent", "expected"), CALLS)
def test_a_call_sends_its_requests_with_the_token_as_a_bearers_and_returns_the_answer(
    method: str, arguments: tuple[str, ...], sent: list[str], expected: Any, ask: Ask, serve: Serve
) -> None:
    job = Job("line\n", status="RUNNING")
    parts: dict[str, Any] = {"nodes": NODES, "tasks": TASKS, "base_path": "/ray", "token": TOKEN, "service": "ray"}
    agent = serve(job, applications=[Application("my app")], extra={"headers": {"X-Key": "k-1"}}, **parts)
    values = expected(job)
    assert ask(method, *arguments) == values
    assert [f"{request.method} {request.sent_path}" for request in agent.requests] == sent
    assert {request.status for request in agent.requests} == {200}
    assert {request.headers["authorization"] for request in agent.requests} == {f"Bearer {TOKEN}"}
    assert {request.headers["x-key"] for request in agent.requests} == {"k-1"}


def test_an_ended_job_is_deleted_and_a_running_one_is_not(ask: Ask, serve: Serve) -> None:
    agent = serve(Job(), Job(status="RUNNING", job_id="runs"), service="ray")
    assert ask("delete_job", "j1") == {"deleted": True}
    with pytest.raises(RayAgentServerError, match="non-terminal state RUNNING"):
        ask("delete_job", "runs")
    with pytest.raises(RayAgentNotFoundError):
        ask("delete_job", "j1")
    with pytest.raises(RayAgentInputError):
        ask("delete_job", "../j1")
    assert list(agent.jobs) == ["runs"]


@pytest.mark.parametrize("older_than", [3600, timedelta(hours=1)])
def test_only_jobs_that_ended_so_long_ago_are_deleted(older_than: float | timedelta, ask: Ask, serve: Serve) -> None:
    now = int(time.time() * 1000)
    old, new = now - 3_700_000, now - 3_500_000
    agent = serve(
        Job(job_id="old", ended=old),
        Job("", "FAILED", "failed", ended=old),
        Job(job_id="gone", ended=old),
        Job(job_id="new", ended=new),
        Job("", "RUNNING", "runs"),
        Job("", "SUCCEEDED", "no-end", details={"end_time": None}),
        Job("", "SUCCEEDED", "odd-end", details={"end_time": "yesterday"}),
        Job("", "SUCCEEDED", "driver", ended=old, details={"submission_id": None}),
        Job("", "SUCCEEDED", "odd-id", ended=old, details={"submission_id": "../stop"}),
        # Somebody else has deleted it meanwhile.
        answers={"DELETE jobs/gone/": [ray_dialect.error(404)]},
        service="ray",
    )
    assert ask("delete_ended_jobs", older_than) == ["old", "failed"]
    assert sorted(agent.jobs) == ["driver", "gone", "new", "no-end", "odd-end", "odd-id", "runs"]


@pytest.mark.parametrize("older_than", [0, -1, "1", True, float("nan"), None])
def test_an_age_that_is_none_deletes_nothing(older_than: Any, ask: Ask, serve: Serve) -> None:
    agent = serve(Job(), service="ray")
    with pytest.raises(RayAgentInputError, match="older_than must be"):
        ask("delete_ended_jobs", older_than)
    assert agent.requests == []


def test_an_agent_deletes_no_jobs(ask: Ask, serve: Serve) -> None:
    agent = serve(Job())
    with pytest.raises(RayAgentUnsupportedError, match="An agent deletes no jobs"):
        ask("delete_job", "j1")
    assert "DELETE" not in {request.method for request in agent.requests}


@pytest.mark.parametrize("method", ["tail_job_logs", "websocket_tail_job_logs", "stream_tail_job_logs"])
def test_every_log_method_polls_the_file(method: str, ask: Ask, serve: Serve) -> None:
    agent = serve(Job("a\nb é\nno newline"), service="ray")
    assert ask(method, "j1") == ["a", "b é", "no newline"]
    assert {request.method for request in agent.requests} == {"GET"}
    assert agent.max_open_streams["j1"] == 0
    assert RayAgentHook().config.page_urls("j1") == {"job_url": f"{agent.url}#/jobs/j1"}


def test_a_job_that_never_started_has_an_empty_log(ask: Ask, serve: Serve) -> None:
    job = Job("", "FAILED", details={"driver_node_id": None})
    agent = serve(job, Job(status="PENDING", job_id="j2"), service="ray")
    assert ask("tail_job_logs", "j1") == []
    assert ask("get_job_logs", "j1") == ""
    assert ask("get_job_logs", "j2") == ""
    assert agent.of(LOG) == []


@pytest.mark.parametrize(
    ("method", "value", "sent"),
    [
        ("get_job", "nope", 1),
        ("stop_job", "nope", 1),
        ("get_job_logs", "nope", 1),
        ("get_node", UNKNOWN, 1),
        ("get_node", "head", 0),
        ("get_node", TASK, 0),
        ("get_task", TASK, 1),
        ("get_task", UNKNOWN, 0),
        ("get_task", "x" * 48, 0),
    ],
)
def test_what_is_unknown_is_not_found_and_an_id_that_is_not_rays_is_not_asked_for(
    method: str, value: str, sent: int, ask: Ask, serve: Serve
) -> None:
    agent = serve(tasks=[], service="ray")
    with pytest.raises(RayAgentNotFoundError, match=f"{value} does not exist") as caught:
        ask(method, value)
    assert caught.value.status_code == 404
    assert len(agent.requests) == sent


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("list_jobs", "GET jobs/"),
        ("get_job", "GET jobs/j1/"),
        ("stop_job", "POST jobs/j1/stop/"),
        ("get_job_logs", LOG),
        ("list_nodes", "GET nodes/"),
        ("list_serve_applications", "GET serve_applications/"),
        ("get_gpu_status", "GET api/cluster_status"),
        ("health_check", "GET api/version"),
    ],
)
def test_a_traceback_is_shown_as_its_last_line(method: str, route: str, ask: Ask, serve: Serve) -> None:
    words = f"RuntimeError: no route for {TOKEN} to GCS"
    step = Answer(500, ray_dialect.TRACEBACK.format(error=words))
    serve(Job(), answers={route: [step]}, service="ray")
    with pytest.raises(RayAgentServerError) as caught:
        ask(method, *(["j1"] if "get_job" in method or "stop" in method else []))
    assert str(caught.value).endswith("answered 500: RuntimeError: no route for *** to GCS")
    assert caught.value.status_code == 500


def test_an_error_of_the_state_api_is_shown_in_its_words(ask: Ask, serve: Serve) -> None:
    words = "Max number of in-progress requests=100 reached."
    serve(answers={"GET nodes/": [ray_dialect.state_error(400, words)]}, service="ray")
    with pytest.raises(RayAgentHTTPError, match=f"GET /api/v0/nodes answered 400: {words}$"):
        ask("list_nodes")


@pytest.mark.parametrize(
    ("answer", "method", "words"),
    [
        (Answer(200, []), "list_nodes", "expected a JSON object"),
        (Answer(200, {"data": {"result": 7}}), "list_nodes", "has no list of rows"),
        (Answer(200, {"data": {"result": {"result": [1]}}}), "list_tasks", "has no list of rows"),
        (Answer(200, {}), "list_serve_applications", "has no Serve applications"),
        (Answer(200, {"ray_version": None}), "health_check", "names no version of Ray"),
        (Html(200), "list_jobs", "got an HTML page"),
        (Html(404), "list_jobs", "not in the form of the Ray dashboard"),
        (Answer(404, "404: Not Found"), "list_jobs", "not in the form of the Ray dashboard"),
    ],
)
def test_an_answer_that_is_not_rays_is_told(answer: Step, method: str, words: str, ask: Ask, serve: Serve) -> None:
    serve(answers={"*": [answer]}, service="ray")
    with pytest.raises(RayAgentResponseError, match=words):
        ask(method)


def test_a_token_that_is_missing_or_wrong_is_told_apart(ask: Ask, serve: Serve, connect: Connect) -> None:
    agent = serve(Job(), token=TOKEN, service="ray", password=None)
    with pytest.raises(RayAgentHTTPError, match="401: Unauthorized: Missing authentication token"):
        ask("get_job", "j1")
    connect(agent, password="wrong-token", extra={"service": "ray"})
    with pytest.raises(RayAgentHTTPError, match="403: Forbidden: Invalid authentication token") as caught:
        ask("get_job", "j1")
    assert "wrong-token" not in str(caught.value)


@pytest.mark.parametrize(("name", "label"), [("user_token", "User token"), ("tenant", "Tenant")])
def test_a_field_that_means_nothing_to_ray_is_refused(name: str, label: str, ask: Ask, serve: Serve) -> None:
    agent = serve(service="ray", extra={name: "acme-secret"})
    with pytest.raises(RayAgentConfigError, match=rf"{label} \({name}\), which the Ray dashboard") as caught:
        ask("list_jobs")
    assert "acme-secret" not in str(caught.value)
    assert agent.connections == 0


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("list_plugin_releases", (), "has no plugins"),
        ("get_plugin_release", ("train@1.0",), "has no plugins"),
        ("run_plugin_release", ("train@1.0", "train"), "has no plugins"),
        ("run_debug_plugin_release", ("train",), "has no plugins"),
        ("check_feasibility", ("job", 1), "no gatekeeper to ask: .*get_cluster_resources"),
        ("get_gatekeeping_policy", (), "no gatekeeping policy.*get_cluster_resources"),
    ],
)
def test_what_ray_does_not_have_is_refused_before_anything_is_sent(
    method: str, arguments: tuple[Any, ...], words: str, ask: Ask, serve: Serve
) -> None:
    agent = serve(service="ray")
    with pytest.raises(RayAgentUnsupportedError, match=words):
        ask(method, *arguments)
    assert agent.connections == 0


def test_rays_control_service_may_be_down(ask: Ask, serve: Serve) -> None:
    serve(answers={"GET api/gcs_healthz": [Answer(503, "GCS is not alive")]}, service="ray")
    assert ask("health_check") == {"status": "down", "ray": {**HEALTH["ray"], "status": "down"}}


def submitted(agent: ScriptedAgent) -> dict[str, Any]:
    [request] = agent.of(SUBMIT)
    body: dict[str, Any] = json.loads(request.body)
    return body


@pytest.mark.parametrize("gone_after", [0.0, None])
@pytest.mark.parametrize("name", ["app", "my app", "it's; rm -rf $HOME `x`", "漢é", "-c"])
def test_one_application_is_deleted_by_a_job(name: str, gone_after: float | None, ask: Ask, serve: Serve) -> None:
    agent = serve(applications=[Application(name, gone_after=gone_after), Application("other")], service="ray")
    assert ask("delete_serve_application", name) is None
    left = [app["name"] for app in ask("list_serve_applications")]
    assert left == (["other"] if gone_after == 0.0 else [name, "other"])
    assert submitted(agent)["submission_id"].startswith("rayagent-delete-application-")
    assert "env_vars" not in submitted(agent)


def test_an_application_that_is_being_deleted_or_is_not_there_is_not_deleted_by_a_job(ask: Ask, serve: Serve) -> None:
    agent = serve(applications=[Application(status="DELETING")], service="ray")
    assert ask("delete_serve_application", "app") is None
    for method in ("get_serve_application", "delete_serve_application"):
        with pytest.raises(RayAgentNotFoundError, match="Serve application 'other' does not exist") as caught:
            ask(method, "other")
        assert caught.value.status_code == 404
    assert agent.of(SUBMIT) == []


def run_as(agent: ScriptedAgent, status: str, message: str = "") -> None:
    """Have every submitted job be in this status, whatever it does."""

    def submit(request: Request) -> Answer:
        job_id = json.loads(request.body)["submission_id"]
        agent.jobs[job_id] = Job(status=status, message=message, job_id=job_id)
        return Answer(200, {"job_id": job_id, "submission_id": job_id})

    agent.answers[SUBMIT] = [submit]


def test_a_job_that_fails_to_delete_is_told_with_its_last_words(ask: Ask, serve: Serve) -> None:
    message = ray_dialect.TRACEBACK.format(error=f"ray.serve.exceptions.RayServeException: no Serve for {TOKEN}")
    agent = serve(applications=[Application()], service="ray")
    run_as(agent, "FAILED", f"Job entrypoint command failed with exit code 1, last logs:\n{message}")
    with pytest.raises(RayAgentServerError) as caught:
        ask("delete_serve_application", "app")
    job_id = submitted(agent)["submission_id"]
    assert caught.value.detail == (
        f"Ray job {job_id} did not delete Serve application 'app': "
        "ray.serve.exceptions.RayServeException: no Serve for ***"
    )


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "SUCCEEDED"])
def test_an_application_that_stays_is_told_with_the_job(status: str, ask: Ask, serve: Serve) -> None:
    agent = serve(applications=[Application()], service="ray")
    run_as(agent, status)
    with pytest.raises(RayAgentTimeoutError, match=r"'app' is still not being deleted 0\.3 s after Ray job") as caught:
        ask("delete_serve_application", "app")
    assert submitted(agent)["submission_id"] in str(caught.value)


def test_the_time_to_wait_for_a_deletion_includes_that_of_the_requests(
    ask: Ask, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pauses alone would take that time after 200 rounds.
    monkeypatch.setattr(ray_service, "DELETE_POLL_SECONDS", 0.0015)

    def slow(request: Request) -> Any:
        time.sleep(0.05)
        return DEFAULT

    agent = serve(applications=[Application()], answers={"*": [slow]}, service="ray")
    run_as(agent, "RUNNING")
    with pytest.raises(RayAgentTimeoutError, match=r"'app' is still not being deleted 0\.3 s"):
        ask("delete_serve_application", "app")
    assert len(agent.requests) < 40


@pytest.mark.parametrize("lost", [Play(Reset()), Answer(503, "busy"), Answer(504, "timed out")])
def test_an_application_is_deleted_by_one_job_if_the_first_answer_is_lost(lost: Step, ask: Ask, serve: Serve) -> None:
    def lose(request: Request) -> Any:
        ray_dialect.usual(agent, request)
        return lost

    agent = serve(applications=[Application(), Application("other")], answers={SUBMIT: [lose, DEFAULT]}, service="ray")
    assert ask("delete_serve_application", "app") is None
    first, second = agent.of(SUBMIT)
    assert first.body == second.body
    assert list(agent.jobs) == [json.loads(first.body)["submission_id"]]
