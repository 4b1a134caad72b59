"""What Ray has recorded about a failed job, as the page gets it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.ui import clusters
from airflow_provider_rayagent.ui.shared import SharedResults
from airflow_provider_rayagent.ui.user_connections import ViewedService
from tests.scripted import Hold, Job, Play
from tests.unit.failures.test_failure_look import NODES, TASK

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import Serve

VIEWED = ViewedService("rayagent_default")
JOB = Job("a line\n", "FAILED")


@pytest.fixture(autouse=True)
def _own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Get the results in the event loop of a test, whose threads end with it, and none of an earlier test."""
    monkeypatch.setattr(clusters, "_shared", SharedResults())
    monkeypatch.setattr(clusters, "page_thread", SimpleNamespace(run=lambda steps: steps))


async def looks(count: int) -> list[Any]:
    """Return what so many views of the job get, one after the other."""
    job = await clusters.job_of(VIEWED, JobId("j1"))
    return [await clusters.look_at_failure(VIEWED, JobId("j1"), job) for _ in range(count)]


def asked(agent: ScriptedAgent) -> list[str]:
    return [request.sent_path for request in agent.requests if "v0" in request.sent_path]


def test_all_views_of_a_failed_job_share_one_look(serve: Serve) -> None:
    agent = serve(JOB, service="ray", nodes=NODES, tasks=[TASK])
    first, *others = asyncio.run(looks(5))
    assert [group.first.name for group in first.groups] == ["f"]
    assert all(each is first for each in others)
    assert len([path for path in asked(agent) if path == "api/v0/nodes"]) == 1


def test_a_job_that_has_not_failed_costs_no_request(serve: Serve) -> None:
    agent = serve(Job("a line\n", "RUNNING"), service="ray")
    assert asyncio.run(looks(1)) == [None]
    assert asked(agent) == []


def test_the_details_do_not_wait_for_a_ray_that_hangs(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.2)
    serve(JOB, service="ray", answers={"GET api/v0/actors": [Play(Hold())]}, nodes=NODES, tasks=[TASK])
    (look,) = asyncio.run(looks(1))
    assert look.note == "Ray did not tell all that it has recorded about this job."
