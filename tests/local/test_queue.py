"""The agent's queue with a real Ray: it limits running jobs; the others run in order and are unknown until then."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.tail.end import End
from tests.local.test_following import config_of_agent, follow_async
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

LIMIT = 3
"""The command's default."""
LONG = {"epochs": 10_000, "seconds": 0.2}
SHORT = {"epochs": 1, "seconds": 0.1}


def stop(agent: LocalAgent, job_id: str) -> requests.Response:
    return agent.request("POST", f"jobs/{job_id}/stop/")


def is_known(agent: LocalAgent, job_id: str) -> bool:
    response = agent.request("GET", f"jobs/{job_id}/")
    assert response.status_code in (200, 404)
    return response.ok


def wait_until_known(agent: LocalAgent, job_id: str) -> None:
    wait_until(lambda: is_known(agent, job_id) or None, f"{job_id} is still unknown")


@pytest.fixture
def full(agent: LocalAgent) -> Iterator[list[str]]:
    """Ids of jobs that fill all slots; they are stopped at the end."""
    ids = [f"full-{uuid.uuid4()}" for _ in range(LIMIT)]
    try:
        for job_id in ids:
            assert agent.run("train", "train", LONG, job_id=job_id)["status"] == "PENDING"
        yield ids
    finally:
        for job_id in ids:
            stop(agent, job_id)
        for job_id in ids:
            agent.wait(job_id)


def test_waiting_jobs_are_unknown_and_run_in_order(agent: LocalAgent, full: list[str]) -> None:
    later = [
        agent.run("train", "train", LONG if number == 0 else SHORT, job_id=f"later-{number}") for number in range(3)
    ]
    assert [answer["status"] for answer in later] == ["QUEUED"] * 3
    agent.wait(full[0], statuses=["RUNNING"])
    assert not any(is_known(agent, answer["job_id"]) for answer in later)
    assert not {answer["job_id"] for answer in later} & {
        job["submission_id"] for job in agent.request("GET", "jobs/").json()
    }

    stop(agent, full[0])
    agent.wait(full[0])
    wait_until_known(agent, "later-0")
    time.sleep(2)
    assert not is_known(agent, "later-1"), "the first of them took the free slot"

    stop(agent, "later-0")
    starts = [agent.wait("later-0")["start_time"]]
    for job_id in ("later-1", "later-2"):
        wait_until_known(agent, job_id)
        job = agent.wait(job_id)
        assert job["status"] == "SUCCEEDED"
        starts.append(job["start_time"])
    assert starts == sorted(starts)


def test_stopped_waiting_job_never_runs(agent: LocalAgent, full: list[str]) -> None:
    agent.run("train", "train", SHORT, job_id="stopped-in-queue")

    assert stop(agent, "stopped-in-queue").json() == {"stopped": True}
    assert stop(agent, "stopped-in-queue").json() == {"stopped": False}
    job = agent.job("stopped-in-queue")
    assert (job["submission_id"], job["status"], job["type"]) == ("stopped-in-queue", "STOPPED", "SUBMISSION")
    assert "waited in the agent's queue" in job["message"]
    assert job["end_time"] >= job["start_time"] > 1_500_000_000_000
    assert set(job) == set(agent.job(full[0])), "it has the fields of Ray's jobs"
    assert job in agent.request("GET", "jobs/").json()
    assert agent.request("GET", "jobs/stopped-in-queue/logs/").text == ""
    followed = follow_async(config_of_agent(agent), "stopped-in-queue", ("http",))
    assert (followed.end, followed.job["status"], followed.lines) == (End.JOB_ENDED, "STOPPED", [])

    stop(agent, full[0])
    agent.wait(full[0])
    time.sleep(2)
    assert agent.job("stopped-in-queue") == job, "it is not started later"


def test_id_in_use_returns_409(agent: LocalAgent, full: list[str]) -> None:
    agent.run("train", "train", SHORT, job_id="waits")
    agent.run("train", "train", SHORT, job_id="ended-here")
    stop(agent, "ended-here")

    def again(job_id: str) -> list[Any]:
        run = {"action": "train", "job_id": job_id}
        answers = [
            agent.request("POST", "plugin_releases/train/run/", json=run),
            agent.request("POST", "jobs/", json={"entrypoint": "true", "submission_id": job_id}),
        ]
        assert [answer.status_code for answer in answers] == [409, 409]
        return [answer.json()["detail"] for answer in answers]

    assert again(full[0]) == [f"Job {full[0]} already exists"] * 2
    assert again("waits") == ["Job waits already exists: it waits in the agent's queue"] * 2
    assert again("ended-here") == ["Job ended-here already exists"] * 2
    stop(agent, "waits")
