"""The queue's rules where Ray is away or refuses, which a real Ray does not do on cue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.local import jobqueue
from airflow_provider_rayagent.local.errors import RayAnswerError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.local.jobqueue import JobQueue

if TYPE_CHECKING:
    from collections.abc import Callable


class Ray:
    """As much of a dashboard as the queue asks.

    :ivar faults: raised by the next submissions.
    :ivar lost: raised by the next submission once Ray has the job.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[Exception | None] = []
        self.away = False
        self.lost: Exception | None = None

    async def list_jobs(self) -> list[dict[str, Any]]:
        if self.away:
            raise RayUnavailableError("Ray is away")
        return list(self.jobs.values())

    async def get_job(self, job_id: str) -> dict[str, Any]:
        if self.away:
            raise RayUnavailableError("Ray is away")
        if job_id not in self.jobs:
            raise RayAnswerError(f"Job {job_id} does not exist", 404)
        return self.jobs[job_id]

    async def submit_job(self, request: dict[str, Any]) -> dict[str, Any]:
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        if request["submission_id"] in self.jobs:
            raise RayAnswerError(f"Job {request['submission_id']} already exists", 409)
        self.jobs[request["submission_id"]] = {**request, "status": "PENDING"}
        lost, self.lost = self.lost, None
        if lost:
            raise lost
        return {}

    async def until(self, *job_ids: str) -> None:
        """Wait until Ray has exactly these jobs, submitted in this order."""
        await until(lambda: tuple(self.jobs) == job_ids)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something."""
    for _ in range(3_000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "POLL_SECONDS", 0.01)


def a_job(job_id: str) -> dict[str, Any]:
    return {"submission_id": job_id, "entrypoint": "true", "metadata": {"plugin": "p", "action": "a"}}


def make_queue(limit: int = 1) -> tuple[Ray, JobQueue]:
    ray: Any = Ray()
    return ray, JobQueue(ray, limit)


def test_jobs_go_to_ray_in_order_as_others_end() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        assert [await queue.add(a_job(each)) for each in "abcd"] == [False, True, True, True]
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


def test_jobs_that_are_on_ray_already_count_if_they_are_of_plugins() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        ray.jobs["other"] = {"status": "RUNNING", "metadata": None}
        ray.jobs["ended"] = {**a_job("ended"), "status": "SUCCEEDED"}
        assert not await queue.add(a_job("a"))
        assert await JobQueue(ray, 1).add(a_job("b"))  # type: ignore[arg-type]

    asyncio.run(play())


def test_while_ray_is_away_what_waits_goes_on_waiting_and_nothing_is_taken() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        await queue.add(a_job("a"))
        await queue.add(a_job("b"))
        ray.away = True
        with pytest.raises(RayUnavailableError):
            await queue.add(a_job("c"))
        await asyncio.sleep(0.1)
        ray.away = False
        ray.jobs["a"]["status"] = "SUCCEEDED"
        ray.faults = [RayUnavailableError("no answer")]
        await ray.until("a", "b")
        assert await queue.stop("c") is None
        await queue.close()

    asyncio.run(play())


def test_a_job_that_ray_refuses_at_once_is_refused_and_not_known() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        ray.faults = [RayAnswerError("no such resource", 400)]
        with pytest.raises(RayAnswerError, match="no such resource"):
            await queue.add(a_job("a"))
        assert queue.find("a") is None
        assert not await queue.add(a_job("a"))

    asyncio.run(play())


def test_a_waiting_job_that_ray_refuses_has_failed_and_the_next_is_submitted() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(a_job(each))
        ray.faults = [RayAnswerError("no such resource", 400)]
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "c")
        (failed,) = queue.ended()
        assert (failed["submission_id"], failed["status"]) == ("b", "FAILED")
        assert failed["message"] == "Ray rejected the job: no such resource"
        assert failed["end_time"] >= failed["start_time"]

    asyncio.run(play())


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_waiting_job_that_ray_cannot_take_now_is_submitted_again(status: int) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(a_job(each))
        ray.faults = [RayAnswerError("not now", status)] * 3
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        assert queue.ended() == []
        await queue.close()

    asyncio.run(play())


def test_a_waiting_job_that_ray_never_takes_has_failed_and_the_next_is_submitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobqueue, "MAX_FAILURES", 3)

    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(a_job(each))
        ray.faults = [RayAnswerError("Ray failed (500): no reason given", 500)] * 3
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "c")
        (failed,) = queue.ended()
        assert (failed["submission_id"], failed["status"]) == ("b", "FAILED")
        assert failed["message"] == "Ray rejected the job: Ray failed (500): no reason given"

    asyncio.run(play())


LOST = [RayUnavailableError("no answer"), RayAnswerError("Ray failed (500): no reason given", 500)]


@pytest.mark.parametrize("lost", LOST)
def test_a_submission_whose_answer_was_lost_is_rays(lost: Exception) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "ab":
            await queue.add(a_job(each))
        ray.lost = lost
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b")
        await until(lambda: not queue.has("b"))
        assert await queue.stop("b") is None
        assert queue.ended() == []

    asyncio.run(play())


@pytest.mark.parametrize("lost", LOST)
def test_a_job_that_is_stopped_when_the_answer_to_its_submission_was_lost_is_left_to_ray(lost: Exception) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "ab":
            await queue.add(a_job(each))
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


@pytest.mark.parametrize("metadata", [None, {}, {"plugin": "p", "action": "a"}, {"queued_as": "other"}])
def test_another_job_that_somebody_submits_under_a_waiting_jobs_id_is_not_taken_for_it(metadata: Any) -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "abc":
            await queue.add(a_job(each))
        theirs = {**a_job("b"), "metadata": metadata, "status": "SUCCEEDED"}
        ray.jobs["b"] = theirs
        with pytest.raises(RayAnswerError) as caught:
            queue.find("b")
        assert caught.value.status_code == 404, "ours has not begun"
        ray.jobs["a"]["status"] = "SUCCEEDED"
        await ray.until("a", "b", "c")
        assert queue.has("b")
        ours = queue.find("b") or {}
        assert ours["status"] == "FAILED"
        assert "another job was submitted to Ray under its id" in ours["message"]
        assert ray.jobs["b"] is theirs
        assert await queue.stop("b") is False, "theirs is not stopped for ours"
        await queue.close()

    asyncio.run(play())


def test_there_is_a_bound_on_jobs_that_wait_and_on_those_that_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "MAX_WAITING", 3)
    monkeypatch.setattr(jobqueue, "MAX_ENDED", 2)

    async def play() -> None:
        _, queue = make_queue()
        for each in "abcd":
            await queue.add(a_job(each))
        with pytest.raises(TooManyError, match="3 waiting jobs") as caught:
            await queue.add(a_job("e"))
        assert caught.value.status_code == 429
        for each in "bcd":
            assert await queue.stop(each)
        assert [job["submission_id"] for job in queue.ended()] == ["c", "d"]
        assert await queue.add(a_job("e"))
        await queue.close()

    asyncio.run(play())
