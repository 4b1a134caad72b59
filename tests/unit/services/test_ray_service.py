"""The requests that Ray's dashboard takes, and what its answers mean."""

from __future__ import annotations

import ast
import shlex
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.services import ray_responses
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call, Pause, finish, run_steps
from airflow_provider_rayagent.services.cluster_resources import cluster_resources
from airflow_provider_rayagent.services.ray_service import LOG_INTERVAL, RAY
from airflow_provider_rayagent.services.service import ErrorResponse
from airflow_provider_rayagent.services.submission import SUBMIT_SECONDS
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.transport.tail_driver import settings_for
from tests.scripted import ray_dialect

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Operation

JOB = JobId("j1")
NODE, TASK = "ab" * 28, "cd" * 24


def run(operation: Operation, *answers: Any) -> tuple[Any, list[Call | Pause]]:
    """Return the result of an operation, and its steps; an answer that is an error is thrown."""
    waiting, sent = list(answers), []

    async def do(step: Call | Pause) -> Any:
        sent.append(step)
        if isinstance(step, Pause):
            return sum(step.seconds for step in sent if isinstance(step, Pause))
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if step.convert is None else step.convert(answer)

    if isinstance(operation, Call):
        return finish(do(operation)), sent
    return finish(run_steps(operation, do)), sent


def rows(*found: dict[str, Any]) -> dict[str, Any]:
    return {"result": True, "data": {"result": {"result": list(found)}}}


def applications(**found: str) -> dict[str, Any]:
    return {"applications": {name: {"name": name, "status": status} for name, status in found.items()}}


def query_of(call: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(call.path).query)


def test_no_path_has_a_slash_that_ray_does_not_know() -> None:
    calls = [
        RAY.list_jobs(),
        RAY.get_job(JOB),
        RAY.stop_job(JOB),
        RAY.list_nodes(),
        RAY.get_node(NODE),
        RAY.list_tasks(),
        RAY.get_task(TASK),
        RAY.list_serve_applications(),
        RAY.get_serve_application("a"),
    ]
    paths = [urlsplit(call.path).path for call in calls]
    assert [path for path in paths if path.endswith("/")] == ["api/jobs/", *["api/serve/applications/"] * 2]
    assert all(path.startswith("api/") for path in paths)
    assert [call for call in calls if not call.idempotent] == [RAY.stop_job(JOB)]


@pytest.mark.parametrize("call", [RAY.list_nodes(), RAY.list_tasks(), RAY.get_node(NODE), RAY.get_task(TASK)])
def test_rows_are_asked_for_up_to_rays_limit_and_with_a_whole_number_of_seconds(call: Call) -> None:
    query = query_of(call)
    assert (query["limit"], query["timeout"]) == (["10000"], ["7"])


def test_the_last_attempt_of_a_task_is_the_task() -> None:
    first, last = {"attempt_number": 0}, {"attempt_number": 2}
    assert run(RAY.get_task(TASK), rows(first, last, {}))[0] == last
    with pytest.raises(RayAgentNotFoundError, match=f"Ray task {TASK} does not exist"):
        run(RAY.get_task(TASK), rows())


@pytest.mark.parametrize("value", ["", "a/b", "..", None, 7])
def test_a_hostile_id_is_refused(value: Any) -> None:
    for method in (RAY.get_node, RAY.get_task):
        with pytest.raises(RayAgentInputError):
            method(value)


@pytest.mark.parametrize(
    "job", [{"status": "RUNNING", "driver_node_id": NODE}, {"status": "FAILED", "driver_node_id": NODE}]
)
def test_the_log_is_the_drivers_file_and_comes_whole(job: dict[str, Any]) -> None:
    expected = {"node_id": [NODE], "filename": ["job-driver-j1.log"], "lines": ["-1"], "timeout": ["290"]}
    call, sent = run(RAY.locate_log(JOB, job))
    assert sent == []
    assert (call.path.partition("?")[0], query_of(call), call.shape) == ("api/v0/logs/file", expected, "text")
    assert run(RAY.locate_log(JOB), job) == (call, [RAY.get_job(JOB)])


def test_a_job_without_a_node_is_looked_up_again_unless_it_has_ended() -> None:
    pending: dict[str, Any] = {"status": "PENDING", "driver_node_id": None}
    running = {"status": "RUNNING", "driver_node_id": NODE}
    assert run(RAY.locate_log(JOB, pending), pending) == (None, [RAY.get_job(JOB)])
    assert run(RAY.locate_log(JOB, pending), running)[0] is not None
    assert run(RAY.locate_log(JOB, {**pending, "status": "FAILED"})) == (None, [])


def test_newer_details_are_told_since_they_may_have_other_secrets() -> None:
    told: list[Any] = []
    details = {"status": "RUNNING", "driver_node_id": NODE}
    run(RAY.locate_log(JOB, {"status": "PENDING"}, on_details=told.append), details)
    run(RAY.locate_log(JOB, details, on_details=told.append))
    assert told == [details]


@pytest.mark.parametrize("sources", [("websocket", "http"), ("http",)])
def test_a_tail_has_no_stream_and_reads_the_log_at_an_interval_of_its_own(sources: Any) -> None:
    assert LOG_INTERVAL == 1.5
    assert RAY.log_interval is not None
    settings = TailSettings(sources=sources, poll_interval=60.0)
    assert settings_for(RAY, settings) == replace(settings, sources=(), log_interval=RAY.log_interval, last_lines=True)
    assert settings_for(AGENT, settings) == settings


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
def test_the_log_is_its_bytes(content_type: str) -> None:
    decoder = RAY.log_decoder(content_type)
    assert decoder.feed(b'"a\\n"\r\n') + decoder.feed(b"\xc3") + decoder.feed(b"\xa9\xff") == '"a\\n"\r\né\ufffd'


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (404, "Job x does not exist", ErrorResponse(404, "Job x does not exist")),
        (404, "404: Not Found", ErrorResponse(404, is_own=False)),
        (404, "The object does not exist", ErrorResponse(404, is_own=False)),
        (404, "Package gcs://a.zip does not exist", ErrorResponse(404, "Package gcs://a.zip does not exist")),
        (405, "405: Method Not Allowed", ErrorResponse(405, "405: Method Not Allowed")),
        (405, "404: Not Found", ErrorResponse(405, is_own=False)),
        (599, "599:", ErrorResponse(599, is_own=False)),
        (400, "Can only stop submission type jobs", ErrorResponse(400, "Can only stop submission type jobs")),
        (
            405,
            "'POST' method not allowed for browser traffic.",
            ErrorResponse(405, "'POST' method not allowed for browser traffic."),
        ),
        (500, "Agent for node id: 0a doesn't exist.", ErrorResponse(500, "Agent for node id: 0a doesn't exist.")),
        (500, "A file is not found at: /a.log", ErrorResponse(500, "A file is not found at: /a.log")),
        (
            500,
            "500 Internal Server Error\n\nServer got itself in trouble",
            ErrorResponse(500, "500 Internal Server Error\n\nServer got itself in trouble"),
        ),
        (
            401,
            "Unauthorized: Missing authentication token",
            ErrorResponse(401, "Unauthorized: Missing authentication token"),
        ),
        (
            500,
            ray_dialect.TRACEBACK.format(error="ValueError: Job with submission_id x already exists, choose another"),
            ErrorResponse(409, "ValueError: Job with submission_id x already exists, choose another"),
        ),
        (
            500,
            ray_dialect.SHORT_TRACEBACK.format(error="ray.exceptions.RpcError: Timed out\n  with more"),
            ErrorResponse(500, "ray.exceptions.RpcError: Timed out\n  with more"),
        ),
        (500, "Traceback (most recent call last):\n  x\nodd", ErrorResponse(500, is_own=False)),
        (500, '{"result": false, "msg": "Max number", "data": {}}', ErrorResponse(500, "Max number")),
        (500, '{"msg": "Max number"}', ErrorResponse(500, is_own=False)),
        (500, '{"result": false, "msg": 7}', ErrorResponse(500, is_own=False)),
        (500, "[1]", ErrorResponse(500, is_own=False)),
        (500, "[" * 100_000, ErrorResponse(500, is_own=False)),
        (500, "so Traceback (most recent call last):\nKeyError: 1", ErrorResponse(500, is_own=False)),
        (500, "ValueError: Job with submission_id x already exists.", ErrorResponse(500, is_own=False)),
        (401, "Unauthorized", ErrorResponse(401, is_own=False)),
        (503, "", ErrorResponse(503, "")),
    ],
)
def test_what_an_error_says(status: int, text: str, expected: ErrorResponse) -> None:
    assert RAY.read_error(status, text) == expected


def test_words_of_several_tracebacks_are_the_last_exception() -> None:
    text = (
        "Traceback (most recent call last):\n  File x\nKeyError: 1\n\n"
        "Traceback (most recent call last):\n  File y\nray.exceptions.RayError: no\nreason\n"
    )
    assert ray_responses.plain_words(text) == "ray.exceptions.RayError: no\nreason"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.60.0", (2, 60)), ("3.0.0.dev0", (3, 0)), ("2.9", (2, 9)), ("nightly", ()), ("", ())],
)
def test_the_release_in_a_version(version: str, expected: tuple[int, ...]) -> None:
    assert ray_responses.release_of(version) == expected


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (RAY, lambda version: {"ray_version": version}),
        (AGENT, lambda version: {"accepts_submissions": True, "ray": {"version": version}}),
    ],
)
def test_only_a_ray_that_knows_labels_gets_a_label_selector(service: Any, says: Any) -> None:
    labels = {"zone": "a"}
    with pytest.raises(RayAgentUnsupportedError, match=r"Ray 2\.53\.0 is too old for entrypoint_label_selector: 2\.54"):
        run(service.submit_job("true", job_id="j1", entrypoint_label_selector=labels), says("2.53.0"))
    run(service.submit_job("true", job_id="j1"), says("2.53.0"), {})
    _, sent = run(service.submit_job("true", job_id="j1", entrypoint_label_selector=labels), says("2.54.0"), {})
    assert sent[-1].body["entrypoint_label_selector"] == labels  # type: ignore[union-attr, index]


def test_an_old_ray_and_a_ray_whose_jobs_may_not_be_read_are_not_usable() -> None:
    with pytest.raises(RayAgentUnsupportedError, match=r"Ray 2\.9\.3 is too old"):
        run(RAY.check_usable(), {"ray_version": "2.9.3"})
    with pytest.raises(RayAgentServerError):
        run(RAY.check_usable(), {"ray_version": "2.50.0"}, RayAgentServerError("no", 500))
    assert run(RAY.check_usable(), {"ray_version": "2.50.0"}, RayAgentNotFoundError("no", 404))[0] is None


def test_an_application_is_deleted_by_a_program_that_takes_any_name() -> None:
    name = "it's; `$(rm)` é"
    steps = run(
        RAY.delete_serve_application(name), applications(**{name: "RUNNING"}), {}, applications(other="RUNNING")
    )[1]
    _, submission, _, pause, _ = steps
    assert isinstance(submission, Call)
    assert submission.body is not None
    assert pause == Pause(0.5)
    python, dash_c, program, argument = shlex.split(submission.body["entrypoint"])
    assert (python, dash_c, argument) == ("python", "-c", name)
    assert "serve.delete(sys.argv[1])" in ast.unparse(ast.parse(program))
    assert (submission.read_timeout, submission.has_unique_id) == (SUBMIT_SECONDS, True)


@pytest.mark.parametrize("answer", [{}, {"applications": []}, {"applications": None}])
def test_an_answer_without_applications_is_not_rays(answer: Any) -> None:
    with pytest.raises(RayAgentResponseError):
        run(RAY.get_serve_application("app"), answer)


def test_gpus_without_usage_are_counted_and_their_use_is_not_known() -> None:
    node = {"node_id": NODE, "state": "ALIVE", "resources_total": {"GPU": 4.0}}
    status, _ = run(RAY.get_gpu_status(), rows(node), {"data": {"clusterStatus": None}})
    assert (status["total_gpus"], status["used_gpus"], status["available_gpus"]) == (4.0, None, None)


@pytest.mark.parametrize("name", [NODE, "10.0.0.7"])
def test_the_usage_of_a_node_is_found_by_its_id_or_with_an_autoscaler_by_its_address(name: str) -> None:
    node = {"node_id": NODE, "node_ip": "10.0.0.7", "state": "ALIVE", "resources_total": {"GPU": 4.0, "CPU": 8.0}}
    usage = {name: {"GPU": [1.0, 4.0], "CPU": [2.0, 8.0]}}
    reported = {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": usage}}}}
    status, _ = run(RAY.get_gpu_status(), rows(node), reported)
    assert (status["used_gpus"], status["available_gpus"]) == (1.0, 3.0)
    found = cluster_resources([node], usage, datetime.now(timezone.utc))
    assert found["cpu"] == {"total": 8.0, "used": 2.0, "available": 6.0}
