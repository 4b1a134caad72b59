"""The queue's rules where Ray is away or refuses, which a real Ray does not do on cue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_rayagent.local import jobqueue
from airflow_provider_rayagent.local.errors import RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.jobqueue import JobQueue


class Ray:
    """As much of a dashboard as the queue asks; ``faults`` are raised by the next submissions."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[Exception | None] = []
        self.away = False

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
        self.jobs[request["submission_id"]] = {**request, "status": "PENDING"}
        return {}

    async def until(self, *job_ids: str) -> None:
        """Wait until Ray has exactly these jobs, submitted in this order."""
        for _ in range(500):
            if tuple(self.jobs) == job_ids:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{tuple(self.jobs)} and not {job_ids}")


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
        assert queue.find_ended("a") is None
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
        assert failed["message"] == "Ray did not take the job: no such resource"
        assert failed["end_time"] >= failed["start_time"]

    asyncio.run(play())


def test_a_submission_whose_answer_was_lost_is_rays() -> None:
    async def play() -> None:
        ray, queue = make_queue()
        for each in "ab":
            await queue.add(a_job(each))
        ray.faults = [RayUnavailableError("no answer"), RayAnswerError("Job b already exists", 409)]
        ray.jobs["a"]["status"] = "SUCCEEDED"
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not ray.faults:
                break
        await asyncio.sleep(0.05)
        assert await queue.stop("b") is None
        assert queue.ended() == []

    asyncio.run(play())
