"""The link from a task to its job's page."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.stack.browser import browser_page
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.support import System, Task

NOBODY = "nobody-knows-this-job"
WITHOUT = {"rayagent_no_page": None, "rayagent_bad_page": "https://ray.example.com/{job}"}


@pytest.fixture(scope="module", autouse=True)
def others(system: System) -> list[Task]:
    """Tasks that follow one job: with a job page, without one, and with one that is no good."""
    for conn_id, template in WITHOUT.items():
        system.connect(conn_id, extra={"job_url": template})
    job_id = system.submit("print('hello')")
    return [system.follow(job_id, "system_plain", conn_id=each) for each in ("rayagent_default", *WITHOUT)]


@pytest.fixture(scope="module")
def missing(system: System) -> Task:
    """A task whose job does not exist; it takes its time to find that out."""
    return system.follow(NOBODY, "system_missing")


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


@pytest.mark.full
def test_the_link_is_there_in_every_try(system: System, missing: Task) -> None:
    missing.assert_ends("up_for_retry")
    page = page_of(system, NOBODY)
    assert missing.link() == page

    system.airflow.clear(missing.dag_id, missing.run_id)
    wait_until(lambda: missing.instance()["try_number"] == 2 or None, "no second try")
    missing.assert_ends("up_for_retry")

    assert [missing.link(number) for number in (1, 2)] == [page, page]


def test_without_a_good_template_the_task_does_its_work_and_has_no_link(
    system: System, others: list[Task], tmp_path: Path
) -> None:
    """The pictures ``link.png`` and ``no-link.png`` are in pytest's folder for this test."""
    linked, *unlinked = others
    for task in others:
        task.assert_ends("success")
        assert task.xcom()["status"] == "SUCCEEDED"
    assert [task.link() for task in unlinked] == [None, None]
    job_id = linked.xcom()["submission_id"]

    with browser_page(details_of(linked), tmp_path) as page:
        page.wait_until(lambda text: "Ray job" in text)
        assert page.look("a", "Ray job", "(each) => each.href") == [page_of(system, job_id)]
        page.save_picture(tmp_path / "link.png")
        page.open(details_of(unlinked[0]))
        page.wait_until(lambda text: unlinked[0].run_id in text and "Extra Links" in text)
        assert page.look("a, button", "Ray job") == []
        page.save_picture(tmp_path / "no-link.png")


def details_of(task: Task) -> str:
    """Return the address of a task's page in Airflow."""
    return f"{task.airflow.url}/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}/details"
