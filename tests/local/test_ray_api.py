"""The client of Ray's dashboard: errors, invalid responses, and whole logs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local.errors import RayResponseError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import describe_problem, read_tolerantly
from airflow_provider_rayagent.local.ray_api import MAX_REQUESTS, RayDashboard
from tests.local.stub_ray import stub_ray
from tests.stack.processes import NO_AGENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.stub_ray import StubRay


@pytest.fixture
def ray() -> Iterator[StubRay]:
    with stub_ray() as ray:
        yield ray


def test_concurrent_requests_are_limited(ray: StubRay) -> None:
    ray.add_job("job")
    ray.delay = 0.5

    async def play() -> None:
        dashboard = RayDashboard(ray.url)
        await asyncio.gather(*(dashboard.get_job("job") for _ in range(2 * MAX_REQUESTS)))
        await dashboard.close()

    asyncio.run(play())
    assert 1 < ray.busiest <= MAX_REQUESTS


def get_job(url: str) -> dict[str, Any]:
    async def play() -> dict[str, Any]:
        dashboard = RayDashboard(url)
        try:
            return await dashboard.get_job("job")
        finally:
            await dashboard.close()

    return asyncio.run(play())


def whole_log(ray: StubRay, job_id: str = "job") -> str:
    async def play() -> str:
        dashboard = RayDashboard(ray.url)
        try:
            job = await dashboard.get_job(job_id)
            return "".join([text async for text in dashboard.log_text(job, is_whole=True)])
        finally:
            await dashboard.close()

    return asyncio.run(play())


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (b"", ""),
        (b"a\r\nb\rc\n\r", "a\nb\nc\n\n"),
        ("é漢😀\n".encode() * 30_000, "é漢😀\n" * 30_000),
        (b"x\r\n" * 100_000, "x\n" * 100_000),
        (b"good\n\xff\xfe\nend \xe6\xbc", "good\n\ufffd\ufffd\nend \ufffd"),
    ],
)
def test_whole_log_has_newlines_of_live_log(ray: StubRay, log: bytes, text: str) -> None:
    ray.add_job("job")
    ray.log = log

    assert whole_log(ray) == text
    assert ray.log_reads == 1


def test_log_without_file_falls_back_to_ray(ray: StubRay) -> None:
    ray.add_job("pending", "PENDING", driver_node_id=None)
    assert whole_log(ray, "pending") == ""
    assert ray.log_reads == 0

    ray.add_job("job")
    ray.answers["/api/v0/logs/file"] = (500, b"Could not find the log file")
    ray.answers["/api/jobs/job/logs"] = (200, b'{"logs": "short\\n"}')
    assert whole_log(ray) == "short\n"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(429, RayUnavailableError, "too many requests"), (404, RayResponseError, "Job job does not exist")],
)
def test_unavailable_whole_log_is_reported(ray: StubRay, status: int, error: type[Exception], words: str) -> None:
    ray.add_job("job")
    ray.answers["/api/v0/logs/file"] = (status, b"")
    ray.answers["/api/jobs/job/logs"] = (404, b"Job job does not exist")

    with pytest.raises(error, match=words):
        whole_log(ray)


def test_aborted_whole_log_is_an_error(ray: StubRay) -> None:
    ray.add_job("job")
    ray.log = b"x" * 500_000
    ray.breaks_off = True

    with pytest.raises(RayUnavailableError):
        whole_log(ray)


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (400, b"Can only stop submission type jobs", 400, "Can only stop submission type jobs"),
        (400, b"bad", 400, "answered 400, but not in the form of the Ray dashboard"),
        (404, b"Job job does not exist", 404, "does not exist"),
        (403, b"Forbidden: Invalid authentication token", 502, "Ray rejects the agent: .*Invalid authentication token"),
        (500, b"Traceback (most recent call last):\n  x\nKeyError: 1\n", 500, "Ray failed: .*KeyError: 1"),
        (200, b"no JSON", 502, "invalid JSON"),
        (200, b"[]", 502, "expected a JSON object"),
        (307, b"", 502, "redirect"),
    ],
)
def test_errors_of_ray_have_statuses_for_the_clients_of_the_agent(
    ray: StubRay, status: int, body: bytes, expected: int, words: str
) -> None:
    ray.answers["/api/jobs/job"] = (status, body)

    with pytest.raises(RayResponseError, match=words) as caught:
        get_job(ray.url)
    assert caught.value.status_code == expected


def test_ray_whose_control_service_is_down_is_unavailable(ray: StubRay) -> None:
    ray.answers |= {"/api/jobs/job": (500, b"KeyError: 1"), "/api/gcs_healthz": (503, b"down")}

    with pytest.raises(RayUnavailableError, match="control service"):
        get_job(ray.url)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_not_used(ray: StubRay, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.add_job("job")
    monkeypatch.setenv(name, NO_AGENT)

    assert get_job(ray.url)["status"] == "SUCCEEDED"


def test_invalid_values_do_not_break_list_of_jobs(ray: StubRay) -> None:
    ray.answers["/api/jobs/"] = (
        200,
        b'[{"submission_id": "odd", "metadata": {"a\\udc00": "\\ud800b \\ud83d\\ude00"}, "n": [NaN, -Infinity, 1e999]},'
        b' {"submission_id": "raw", "metadata": {"a": "\xed\xa0\x80"}}]',
    )

    async def play() -> list[dict[str, Any]]:
        dashboard = RayDashboard(ray.url)
        try:
            return await dashboard.list_jobs()
        finally:
            await dashboard.close()

    odd, raw = asyncio.run(play())
    assert odd == {"submission_id": "odd", "metadata": {"a\ufffd": "\ufffdb 😀"}, "n": [None, None, None]}
    assert raw["metadata"] == {"a": "\ufffd\ufffd\ufffd"}


def test_valid_json_is_unchanged() -> None:
    text = '{"a": [1, 1.5, -2e3, true, null, "\\u00e9\\u2028"], "b": {}, "c": 12345678901234567890}'

    assert read_tolerantly(text) == json.loads(text)
    assert describe_problem(text.encode()) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"[" + b"9" * 5_000 + b"]", "an invalid number"),
        (b'"\\ud800"', "a lone surrogate"),
        (b'{"\\udc00 \\ud83d\\ude00": 1}', "a lone surrogate"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_invalid_json_values_are_described(body: bytes, words: str) -> None:
    assert words in str(describe_problem(body))


@pytest.mark.parametrize("body", [b"", b"{", b"a=b", b"[1,]"])
def test_malformed_json_is_not_described(body: bytes) -> None:
    assert describe_problem(body) is None
