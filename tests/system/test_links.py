"""The links from a task to pages about its job."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from tests.stack.watch import wait_until
from tests.system.support import needs_airflow_3_3

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.airflow import Json
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
    for task in (*tasks.values(), deferred, elements[1]):
        task.assert_ends("failed")
        assert task.link() == page
    elements[0].assert_ends("success")
    assert elements[0].link() == page_of(system, other)


def test_without_a_good_template_the_task_does_its_work_and_has_no_link(others: list[Task]) -> None:
    for task in others:
        task.assert_ends("success")
        assert task.xcom()["status"] == "SUCCEEDED"
        assert task.link() is None


PAGES = {
    "metrics_url": "https://grafana.example.com/d/ray?cluster={host}&from={start}&to={end}",
    "logs_url": "https://logs.example.com/{node_id}/{job_id}?to={end}",
    "history_url": "https://history.example.com/{unknown}",
}


def pages_of(job: Json, service: str, end: object) -> dict[str, str | None]:
    """Return the further links for a job: Airflow shows no button for the last one, whose template is no good."""
    cluster, job_id = quote(urlsplit(service).netloc, safe=""), job["submission_id"]
    return {
        "Ray metrics": f"https://grafana.example.com/d/ray?cluster={cluster}&from={job['start_time']}&to={end}",
        "Ray logs": f"https://logs.example.com/{job['driver_node_id']}/{job_id}?to={end}",
        "Ray history": None,
    }


def wait_for_pages(task: Task, expected: dict[str, str | None]) -> None:
    found: dict[str, str | None] = {}

    def look() -> bool | None:
        found.update({name: url for name, url in task.links().items() if name != "Ray job"})
        return found == expected or None

    wait_until(look, lambda: f"the links of {task.dag_id} are {found}, not {expected}")


@needs_airflow_3_3("lets triggers push no XComs")
def test_metrics_and_logs_are_linked_for_the_node_and_the_time_of_the_job(system: System, tmp_path: Path) -> None:
    agent, ray = system.agent.url, system.agent.ray_address
    over_agent = system.connect("rayagent_pages", extra=PAGES)
    over_ray = system.connect_ray("rayagent_pages_ray", **PAGES)
    release = tmp_path / "release"
    ends = {"fails": system.submit_steady(), "succeeds": system.submit_waiting("print('done')")}
    follow = ("system_plain", "system_reschedule", "system_deferred")
    tasks = [(system.follow(ends["succeeds"], dag_id, conn_id=over_agent), agent, "success") for dag_id in follow]
    tasks += [(system.follow(ends["fails"], dag_id, conn_id=over_agent), agent, "failed") for dag_id in follow[::2]]
    # Its job is PENDING when it defers, without a node.
    submit = system.start("system_submit_deferred", "submit", release=str(release), conn_id=over_ray)
    tasks.append((submit, ray, "success"))
    submit.wait_for("deferred")
    job_ids = [*[ends["succeeds"]] * 3, *[ends["fails"]] * 2, submit.xcom("job_id")]
    for (task, service, _), job_id in zip(tasks, job_ids, strict=True):
        job = system.agent.wait(job_id, statuses=("RUNNING",))
        wait_for_pages(task, pages_of(job, service, "now"))

    system.agent.request("POST", f"jobs/{ends['fails']}/stop/")
    system.release(ends["succeeds"])
    release.touch()

    for (task, service, state), job_id in zip(tasks, job_ids, strict=True):
        task.assert_ends(state)
        job = system.agent.wait(job_id)
        assert job["end_time"] >= job["start_time"]
        wait_for_pages(task, pages_of(job, service, job["end_time"]))
