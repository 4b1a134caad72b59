"""The requests of the agent's API."""

from __future__ import annotations

import json

import pytest

from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import finish, run_steps
from airflow_provider_rayagent.services.service import ErrorResponse
from airflow_provider_rayagent.services.validation import JobId


async def unasked(step: object) -> None:
    raise AssertionError(step)


def test_every_path_ends_with_a_slash() -> None:
    calls = [
        AGENT.list_jobs(),
        AGENT.get_job(JobId("a")),
        finish(run_steps(AGENT.locate_log(JobId("a")), unasked)),
        *(AGENT.streams.open(JobId("a"), source) for source in AGENT.streams.sources),
        AGENT.stop_job(JobId("a")),
        AGENT.list_nodes(),
        AGENT.get_node("a"),
        AGENT.list_tasks(),
        AGENT.get_task("a"),
        AGENT.list_serve_applications(),
        AGENT.get_serve_application("a"),
        AGENT.delete_serve_application("a"),
        AGENT.get_gpu_status(),
        AGENT.get_gatekeeping_policy(),
        AGENT.health_check(),
    ]
    assert all(call.path.endswith("/") and not call.path.startswith("/") for call in calls)
    assert [call for call in calls if not call.idempotent] == [AGENT.stop_job(JobId("a"))]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, {"detail": "Job not found"}, "Job not found"),
        (422, {"detail": [{"loc": ["path", "job_id"], "msg": "too long", "type": "x"}]}, "path.job_id: too long"),
        (422, {"detail": [{"loc": None, "msg": "a"}, {"loc": 5, "msg": "b"}, {"msg": "c"}]}, "a; b; c"),
        (400, {"detail": {"message": "too many", "more": 7}}, "too many"),
        (503, {"message": "No GPU", "error_type": "gpu_unavailable"}, "No GPU"),
        (503, {"error_type": "ray_unavailable"}, "ray_unavailable"),
        (503, {"detail": None, "message": "No GPU"}, "No GPU"),
        (500, "Internal Server Error", "Internal Server Error"),
        (404, "Job j1 does not exist", "Job j1 does not exist"),
        (404, "", ""),
    ],
    ids=str,
)
def test_what_an_error_says(status: int, body: object, words: str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert AGENT.read_error(status, text) == ErrorResponse(status, words)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"msg": "bad"}, "text"]},
        {"detail": [{"msg": None}]},
        {"detail": []},
        {"detail": ["text"]},
        {"detail": {"code": "text"}},
        {"detail": 7},
        {"other": "text"},
        ["text"],
        7,
        "text",
        "Job text",
        "Not Found",
        "Traceback (most recent call last):\nKeyError: text",
        "[" * 100_000,
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_body_in_another_form_says_nothing(body: object) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert AGENT.read_error(500, text) == ErrorResponse(500, is_own=False)
