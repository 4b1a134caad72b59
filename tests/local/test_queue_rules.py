"""The queue if Ray is unavailable or rejects jobs, which cannot be produced with a real Ray."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import jobqueue
from airflow_provider_rayagent.local.errors import RayResponseError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.jobqueue import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable


class Ray:
    """A stub of the dashboard for the queue.

    :ivar faults: errors of the next submissions.
    :ivar away: whether Ray is unavailable.
    :ivar lost: error of the next submission, although Ray accepts the job.
    :ivar release: what submissions wait for.
    :ivar submitting: ids of the jobs whose submission has begun.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[Exception | None] = []
        self.away = False
        self.lost: Exception | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.submitting: list[str] = []

    async def list_jobs(self) -> list[dict[str, Any]]:
        if self.away:
            raise RayUnavailableError("Ray is away")
        return list(self.jobs.values())

    async def get_job(self, job_id: str) -> dict[str, Any]:
        if self.away:
            raise RayUnavailableError("Ray is away")
        if job_id not in self.jobs:
            raise RayResponseError(f"Job {job_id} does not exist", 404)
        return self.jobs[job_id]

    async def submit_job(self, request: dict[str, Any]) -> dict[str, Any]:
        self.submitting.append(request["submission_id"])
        await self.release.wait()
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        if request["submission_id"] in self.jobs:
            raise RayResponseError(f"Job {request['submission_id']} already exists", 409)
        self.jobs[request["submission_id"]] = {**request, "status": "PENDING"}
        lost, self.lost = self.lost, None
        if lost:
            raise lost
        return {}

    async def until(self, *job_ids: str) -> None:
        """Wait until Ray has exactly these jobs, submitted in this order."""
        await until(lambda: tuple(self.jobs) == job_ids)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    for _ in range(3_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition was not fulfilled")


@pytest.fixture(autouse=True)
def _short_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "POLL_SECONDS", 0.01)


def make_job(job_id: str) -> dict[str, Any]:
    return {"submission_id": job_id, "entrypoint": "true", "metadata": {"plugin": "p", "action": "a"}}


def make_queue(limit: int = 1) -> tuple[Ray, JobQueue]:
    ray: Any = Ray()
    return ray, JobQueue(ray, limit)


def test_jobs_are_submitted_in_order_as_others_end() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        assert [await queue.add(make_job(each)) for each in "abcd"] == [False, True, True, True]
        await asyncio.sleep(0.1)
        assert list(ray.jobs) == ["a"]
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        ray.jobs["b"]["status"] = "FAILED"
        await ray.until("a", "b", "c")
        await queue.close()
        ray.jobs["c"]["status"] = "STOPPED"
        await asyncio.sleep(0.1)
        assert list(ray.jobs) == ["a", "b", "c"]

    asyncio.run(play())


def test_existing_plugin_jobs_on_ray_count() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        ray.jobs["other"] = {"status": "RUNNING", "metadata": None}
        ray.jobs["ended"] = {**make_job("ended"), "status": "SUCCEEDED"}
        assert not await queue.add(make_job("a"))
        assert await JobQueue(ray, 1).add(make_job("b"))  # type: ignore[arg-type]

    asyncio.run(play())


def test_jobs_keep_waiting_while_ray_is_unavailable() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        await queue.add(make_job("a"))
        await queue.add(make_job("b"))
        ray.away = True
        with pytest.raises(RayUnavailableError):
            await queue.add(make_job("c"))
        await asyncio.sleep(0.1)
        ray.away = False
        ray.jobs["a"]["status"] = "SUCCEEDED"
        ray.faults = [RayUnavailableError("no answer")]
        await ray.until("a", "b")
        assert await queue.stop("c") is None
        await queue.close()

    asyncio.run(play())


def test_job_rejected_immediately_is_unknown() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        ray.faults = [RayResponseError("no such resource", 400)]
        with pytest.raises(RayResponseError, match="no such resource"):
            await queue.add(make_job("a"))
        assert queue.find("a") is None
        assert not await queue.add(make_job("a"))

    asyncio.run(play())


def test_rejected_waiting_job_fails_and_next_is_submitted() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(make_job(each))
        ray.faults = [RayResponseError("no such resource", 400)]
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "c")
        (failed,) = queue.ended()
        assert (failed["submission_id"], failed["status"]) == ("b", "FAILED")
        assert failed["message"] == "Ray rejected the job: no such resource"
        assert failed["end_time"] >= failed["start_time"]

    asyncio.run(play())


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_transient_failure_is_retried(status: int) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(make_job(each))
        ray.faults = [RayResponseError("not now", status)] * 3
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        assert queue.ended() == []
        await queue.close()

    asyncio.run(play())


def test_waiting_job_fails_after_too_many_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobqueue, "MAX_FAILURES", 3)

    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(make_job(each))
        ray.faults = [RayResponseError("Ray failed (500): no reason given", 500)] * 3
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "c")
        (failed,) = queue.ended()
        assert (failed["submission_id"], failed["status"]) == ("b", "FAILED")
        assert failed["message"] == "Ray rejected the job: Ray failed (500): no reason given"

    asyncio.run(play())


LOST = [RayUnavailableError("no answer"), RayResponseError("Ray failed (500): no reason given", 500)]


@pytest.mark.parametrize("lost", LOST)
def test_submission_with_lost_response_is_recognized_on_ray(lost: Exception) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "ab":
            await queue.add(make_job(each))
        ray.lost = lost
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        await until(lambda: not queue.has("b"))
        assert await queue.stop("b") is None
        assert queue.ended() == []

    asyncio.run(play())


@pytest.mark.parametrize("lost", LOST)
def test_stop_after_lost_response_is_left_to_ray(lost: Exception) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "ab":
            await queue.add(make_job(each))
        ray.lost = lost
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        ray.away = True
        await asyncio.sleep(0.05)
        with pytest.raises(RayUnavailableError):
            await queue.stop("b")
        assert queue.has("b")
        ray.away = False
        assert await queue.stop("b") is None
        assert not queue.has("b")
        await queue.close()

    asyncio.run(play())


def test_other_job_with_same_id_is_not_mistaken_for_waiting_job() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(make_job(each))
        theirs = {**make_job("b"), "status": "SUCCEEDED"}
        ray.jobs["b"] = theirs
        with pytest.raises(RayResponseError) as caught:
            queue.find("b")
        assert caught.value.status_code == 404, "ours has not started"
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b", "c")
        assert queue.has("b")
        ours = queue.find("b") or {}
        assert ours["status"] == "FAILED"
        assert "another job was submitted to Ray under its id" in ours["message"]
        assert ray.jobs["b"] is theirs
        assert await queue.stop("b") is False, "the other job is not stopped"
        await queue.close()

    asyncio.run(play())


def test_stop_of_a_job_on_ray_does_not_wait_for_the_submission_of_another_one() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(make_job(each))
        assert await queue.stop("c")
        ray.release.clear()
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await until(lambda: ray.submitting == ["a", "b"])
        stopping = {each: asyncio.ensure_future(queue.stop(each)) for each in "abcd"}
        await until(lambda: all(stopping[each].done() for each in "acd"))
        assert [stopping[each].result() for each in "acd"] == [None, False, None]
        assert not stopping["b"].done(), "it may or may not be on Ray"
        ray.release.set()
        assert await stopping["b"] is None
        await queue.close()

    asyncio.run(play())


def test_stop_of_a_job_that_is_being_added_waits_until_it_is_known_where_the_job_is() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        ray.release.clear()
        adding = [asyncio.ensure_future(queue.add(make_job(each))) for each in "ab"]
        await until(lambda: ray.submitting == ["a"])
        stopping = [asyncio.ensure_future(queue.stop(each)) for each in "ab"]
        assert await asyncio.wait(stopping, timeout=0.05) == (set(), set(stopping))
        ray.release.set()
        assert await asyncio.gather(*adding, *stopping) == [False, True, None, True]
        await queue.close()

    asyncio.run(play())


def test_waiting_and_ended_jobs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "MAX_WAITING", 3)
    monkeypatch.setattr(jobqueue, "MAX_ENDED", 2)

    async def play() -> None:
        _, queue = make_queue()
        for each in "abcd":
            await queue.add(make_job(each))
        with pytest.raises(TooManyError, match="3 waiting jobs") as caught:
            await queue.add(make_job("e"))
        assert caught.value.status_code == 429
        for each in "bcd":
            assert await queue.stop(each)
        assert [job["submission_id"] for job in queue.ended()] == ["c", "d"]
        assert await queue.add(make_job("e"))
        await queue.close()

    asyncio.run(play())
