"""Describe a job's details for the task log, and summarize them for XCom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.services.jobs import JobStatus


def make_details(**overrides: Any) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "job_id": "01000000",
        "submission_id": "j1",
        "status": "SUCCEEDED",
        "entrypoint": "python train.py",
        "message": "Job finished successfully.",
        "start_time": 1_700_000_000_000,
        "end_time": 1_700_000_002_500,
        "metadata": {"who": "me"},
        "runtime_env": {"env_vars": {"KEY": "s3cret"}},
        "driver_exit_code": 0,
        **overrides,
    }


@pytest.mark.parametrize(
    ("details", "status", "ended"),
    [
        ({"status": "PENDING"}, JobStatus.PENDING, False),
        ({"status": "RUNNING"}, JobStatus.RUNNING, False),
        ({"status": "SUCCEEDED"}, JobStatus.SUCCEEDED, True),
        ({"status": "FAILED"}, JobStatus.FAILED, True),
        ({"status": "STOPPED"}, JobStatus.STOPPED, True),
        ({"status": "RUNNING", "end_time": 5}, JobStatus.RUNNING, False),
        ({"status": "PAUSED"}, None, False),
        ({"status": "PAUSED", "end_time": 0}, None, False),
        ({"status": "EVICTED", "end_time": 5}, None, True),
        ({"status": None}, None, False),
        ({"status": []}, None, False),
        ({}, None, False),
    ],
)
def test_the_status_determines_whether_a_job_has_ended(details: dict[str, Any], status: Any, ended: bool) -> None:
    assert jobs.known_status(details) is status
    assert jobs.has_ended(details) is ended


def test_a_summary_is_small_json_without_the_runtime_environment() -> None:
    summary = jobs.summarize(make_details(), "j1")
    assert json.loads(json.dumps(summary)) == summary
    assert summary == {
        "job_id": "j1",
        "submission_id": "j1",
        "driver_job_id": "01000000",
        "type": "SUBMISSION",
        "status": "SUCCEEDED",
        "message": "Job finished successfully.",
        "error_type": None,
        "entrypoint": "python train.py",
        "start_time": 1_700_000_000_000,
        "end_time": 1_700_000_002_500,
        "driver_exit_code": 0,
        "driver_node_id": None,
        "duration": 2.5,
        "metadata": {"who": "me"},
    }


@pytest.mark.parametrize("details", [{"status": "PENDING"}, make_details(), make_details(submission_id="another")])
def test_the_id_is_the_requested_one(details: dict[str, Any]) -> None:
    assert jobs.summarize(details, "j1")["job_id"] == "j1"


@pytest.mark.parametrize(
    "overrides",
    [
        {"message": "x" * 100_000},
        {"metadata": {"x": "y" * 100_000}},
        {"metadata": {str(number): "x" for number in range(10_000)}},
        {"entrypoint": ["a"] * 10_000},
        {"message": {"not": "text"}},
    ],
)
def test_the_size_of_a_summary_is_bounded(overrides: dict[str, Any]) -> None:
    assert len(json.dumps(jobs.summarize(make_details(**overrides), "j1"))) < 12_000


@pytest.mark.parametrize("name", ["message", "metadata", "start_time", "duration"])
@pytest.mark.parametrize("value", ["a\x00b\ud83dc", float("nan"), float("inf"), {"k\x00": ["v\x00", 1.5, None]}])
def test_a_summary_contains_nothing_that_a_database_rejects(name: str, value: object) -> None:
    text = json.dumps(jobs.summarize(make_details(**{name: value}), "j1"), allow_nan=False)
    assert "\\u0000" not in text
    assert "\\ud83d" not in text


def test_metadata_that_looks_like_an_escape_is_kept() -> None:
    metadata = {"path": "C:\\u0000\\x", "é": "\U0001f680"}
    assert jobs.summarize(make_details(metadata=metadata), "j1")["metadata"] == metadata


@pytest.mark.parametrize(
    ("start", "end", "duration"),
    [
        (1000, 3500, 2.5),
        (1000, 1000, 0),
        (0, 5, None),
        (None, 5, None),
        (5, None, None),
        (9, 5, None),
        (1, 10**400, None),
        (1, float("inf"), None),
        ("1", "2", None),
    ],
)
def test_the_duration_is_in_seconds(start: object, end: object, duration: float | None) -> None:
    assert jobs.summarize(make_details(start_time=start, end_time=end), "j1")["duration"] == duration


def test_a_job_is_described_in_one_sentence() -> None:
    first = "Job j1 is SUCCEEDED after 2.5 s, submitted 2023-11-14 22:13:20 UTC"
    assert jobs.describe(make_details(), "j1") == f"{first}, entrypoint: python train.py."
    assert jobs.describe(make_details(), "j1", names_entrypoint=False) == f"{first}."
    assert jobs.describe(make_details(), "j1", is_first=False) == "Job j1 is SUCCEEDED after 2.5 s."
    assert jobs.describe({"status": "PENDING", "start_time": 1e300, "entrypoint": None}, "j1") == "Job j1 is PENDING."
    assert len(jobs.describe(make_details(entrypoint="x" * 9_999), "j1")) < 400


def test_the_description_of_a_running_job_names_its_url() -> None:
    assert jobs.describe({"status": "RUNNING"}, "j1", "http://a:1") == "Job j1 is RUNNING, at http://a:1."
    assert "http://a:1" not in jobs.describe(make_details(), "j1", "http://a:1")
