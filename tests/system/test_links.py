"""The link from a task to its job's page."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.system.support import System, Task

WITHOUT = {"rayagent_no_page": None, "rayagent_bad_page": "https://ray.example.com/{job}"}


@pytest.fixture(scope="module", autouse=True)
def others(system: System) -> list[Task]:
    """Tasks that follow one job: without a job page, and with one that is no good."""
    for conn_id, template in WITHOUT.items():
        system.connect(conn_id, extra={"job_url": template})
    job_id = system.submit("print('hello')")
    return [system.follow(job_id, "system_plain", conn_id=each) for each in WITHOUT]


def page_of(system: System, job_id: str) -> str:
    """Return the address of a job's page in the dashboard."""
    return f"{system.agent.ray_address}/#/jobs/{job_id}"


def test_every_kind_of_task_links_to_its_jobs_page_from_the_start_and_when_it_has_failed(system: System) -> None:
    job_id, other = system.submit_steady(), system.submit_waiting("print('other')")
    page = page_of(system, job_id)
    deferred = system.follow(job_id, "system_deferred")
    mapped = system.start("system_deferred_mapped", "follow_job", first=other, second=job_id)
    triggered = system.follow(job_id, "system_deferred_from_trigger")
    tasks = {
        "running": system.follow(job_id, "system_plain"),
        "up_for_reschedule": system.follow(job_id, "system_reschedule"),
    }
    elements = [dataclasses.replace(mapped, map_index=index) for index in (0, 1)]
    for state, task in (*tasks.items(), *(("deferred", task) for task in (deferred, *elements))):
        task.wait_for(state)
        # A task is running before it has executed anything.
        link = wait_until(task.link, "no link while the task runs") if state == "running" else task.link()
        assert link == (page_of(system, other) if task is elements[0] else page), state

    stop = system.stop(job_id)
    system.release(other)

    stop.assert_ends("success")
    assert stop.link() == page
    for task in (*tasks.values(), deferred, elements[1], triggered):
        task.assert_ends("failed")
        assert task.link() == page
    elements[0].assert_ends("success")
    assert elements[0].link() == page_of(system, other)


def test_without_a_good_template_the_task_does_its_work_and_has_no_link(others: list[Task]) -> None:
    for task in others:
        task.assert_ends("success")
        assert task.xcom()["status"] == "SUCCEEDED"
        assert task.link() is None
