"""The client of Ray's dashboard: cancelled requests, invalid responses, and whole logs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import ray_api
from airflow_provider_rayagent.local.errors import RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import describe_problem, read_tolerantly
from airflow_provider_rayagent.local.ray_api import MAX_REQUESTS, RayDashboard
from tests.local.stub_ray import stub_ray
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.local.stub_ray import StubRay


@pytest.fixture
def ray() -> Iterator[StubRay]:
    with stub_ray() as ray:
        yield ray


@pytest.mark.parametrize("after", range(6))
def test_cancelled_requests_do_not_leak_connections(ray: StubRay, after: int) -> None:
    """httpcore permanently loses a connection of its pool if a request is cancelled just as it acquires one."""
    ray.add_job("job")

    async def play() -> None:
        dashboard = RayDashboard(ray.url)
        for _ in range(3):
            asked = [asyncio.ensure_future(dashboard.get_job("job")) for _ in range(1_000)]
            for _ in range(after):
                await asyncio.sleep(0)
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        answers = await asyncio.gather(*(dashboard.get_job("job") for _ in range(2 * MAX_REQUESTS)))
        assert [answer["status"] for answer in answers] == ["SUCCEEDED"] * 2 * MAX_REQUESTS
        # Cancelled requests continue until they have a response.
        await asyncio.gather(*dashboard._exchanges, return_exceptions=True)
        pool = dashboard._http._transport._pool  # type: ignore[attr-defined]
        assert all(connection.is_idle() for connection in pool.connections)
        await dashboard.close()

    asyncio.run(play())


def test_concurrent_requests_are_limited(ray: StubRay) -> None:
    ray.add_job("job")
    ray.delay = 0.5

    async def play() -> None:
        dashboard = RayDashboard(ray.url)
        await asyncio.gather(*(dashboard.get_job("job") for _ in range(2 * MAX_REQUESTS)))
        await dashboard.close()

    asyncio.run(play())
    assert 1 < ray.busiest <= MAX_REQUESTS


@pytest.mark.parametrize(
    "ask",
    [
        lambda dashboard: dashboard.get_job("job"),
        lambda dashboard: dashboard.stop_job("job"),
        lambda dashboard: dashboard.submit_job({"entrypoint": "true"}),
        lambda dashboard: dashboard.upload_package("a.zip", b""),
    ],
)
def test_every_request_beyond_limit_waits_equally_long(
    ray: StubRay, ask: Callable[[RayDashboard], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_api, "READ_TIMEOUT", 0.05)
    monkeypatch.setattr(ray_api, "LONG_READ_TIMEOUT", PATIENCE)

    async def play() -> None:
        dashboard = RayDashboard(ray.url)
        for _ in range(MAX_REQUESTS):
            await dashboard._places.acquire()
        with pytest.raises(RayUnavailableError, match="has too many pending requests"):
            await ask(dashboard)
        await dashboard.close()

    asyncio.run(play())


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
    ("status", "error", "words"), [(429, RayUnavailableError, "too many requests"), (404, RayAnswerError, "no file")]
)
def test_unavailable_whole_log_is_reported(ray: StubRay, status: int, error: type[Exception], words: str) -> None:
    ray.add_job("job")
    ray.answers["/api/v0/logs/file"] = (status, b"")
    ray.answers["/api/jobs/job/logs"] = (404, b"no file")

    with pytest.raises(error, match=words):
        whole_log(ray)


def test_aborted_whole_log_is_an_error(ray: StubRay) -> None:
    ray.add_job("job")
    ray.log = b"x" * 500_000
    ray.breaks_off = True

    with pytest.raises(RayUnavailableError):
        whole_log(ray)


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

    assert read_tolerantly(text.encode()) == json.loads(text)
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
