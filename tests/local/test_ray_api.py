"""The client of Ray's dashboard: requests that are given up, answers that are odd, and whole logs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local.errors import RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import describe_problem, read_tolerantly
from airflow_provider_rayagent.local.ray_api import MAX_REQUESTS, RayDashboard
from tests.local.stub_ray import stub_ray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.stub_ray import StubRay


@pytest.fixture
def ray() -> Iterator[StubRay]:
    with stub_ray() as ray:
        yield ray


@pytest.mark.parametrize("after", range(6))
def test_requests_that_are_given_up_take_no_place_from_later_ones(ray: StubRay, after: int) -> None:
    """httpcore's pool loses a connection's place, for good, with a request that is cancelled as it gets it."""
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
        # Those that were given up go on until they are answered.
        await asyncio.gather(*dashboard._exchanges, return_exceptions=True)
        pool = dashboard._http._transport._pool  # type: ignore[attr-defined]
        assert all(connection.is_idle() for connection in pool.connections)
        await dashboard.close()

    asyncio.run(play())


def test_ray_is_not_asked_more_at_a_time_than_it_bears(ray: StubRay) -> None:
    ray.add_job("job")
    ray.delay = 0.5

    async def play() -> None:
        dashboard = RayDashboard(ray.url)
        await asyncio.gather(*(dashboard.get_job("job") for _ in range(2 * MAX_REQUESTS)))
        await dashboard.close()

    asyncio.run(play())
    assert 1 < ray.busiest <= MAX_REQUESTS


def whole_log(ray: StubRay, job_id: str = "job") -> str:
    async def play() -> str:
        dashboard = RayDashboard(ray.url)
        try:
            return "".join([text async for text in dashboard.log_text(job_id)])
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
def test_a_whole_log_is_read_as_rays_live_log_has_it(ray: StubRay, log: bytes, text: str) -> None:
    ray.add_job("job")
    ray.log = log

    assert whole_log(ray) == text
    assert ray.log_reads == 1


def test_a_job_that_never_began_has_no_log_and_one_without_a_file_what_ray_says(ray: StubRay) -> None:
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
def test_a_whole_log_that_ray_does_not_give_is_told(
    ray: StubRay, status: int, error: type[Exception], words: str
) -> None:
    ray.add_job("job")
    ray.answers["/api/v0/logs/file"] = (status, b"")
    ray.answers["/api/jobs/job/logs"] = (404, b"no file")

    with pytest.raises(error, match=words):
        whole_log(ray)


def test_a_whole_log_that_breaks_off_is_not_taken_for_whole(ray: StubRay) -> None:
    ray.add_job("job")
    ray.log = b"x" * 500_000
    ray.breaks_off = True

    with pytest.raises(RayUnavailableError):
        whole_log(ray)


def test_a_job_with_an_odd_value_does_not_spoil_the_list_of_jobs(ray: StubRay) -> None:
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


def test_what_is_plain_json_is_read_as_it_is() -> None:
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
def test_json_that_no_job_can_have_is_told(body: bytes, words: str) -> None:
    assert words in str(describe_problem(body))


@pytest.mark.parametrize("body", [b"", b"{", b"a=b", b"[1,]"])
def test_what_is_no_json_at_all_is_for_others_to_refuse(body: bytes) -> None:
    assert describe_problem(body) is None
