"""The Ray page and the tab of a task, with a real Ray and a real Airflow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
from airflow import __version__ as airflow_version

from tests.stack.browser import IN_FRAME, Page, browser_page
from tests.stack.watch import PATIENCE, wait_until
from tests.system.support import WAITING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.serve import Serve
    from tests.system.support import System, Task

HAS_TAB = tuple(map(int, airflow_version.split(".")[:2])) >= (3, 4)
SCRIPT = "<script>document.hacked = true</script>"


@pytest.fixture(scope="module")
def page(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("ray_page")
    with browser_page(f"{system.airflow.url}/rayagent/", folder, size=(1280, 900)) as opened:
        yield opened


@pytest.fixture(scope="module")
def submitted(system: System, plain_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    """A deferred task that has submitted a job, which runs until the end of this module."""
    release = tmp_path_factory.mktemp("release") / "now"
    task = system.start("system_submit_deferred", "submit", release=str(release), conn_id=plain_ray)
    task.wait_for("deferred")
    yield task
    release.touch()
    task.wait()


def ask(system: System, path: str, status: int = 200) -> Any:
    """Return what a route of the page answers."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{system.airflow.url}/rayagent/api/{path}", timeout=PATIENCE)
    assert answer.status_code == status, answer.text
    return answer.json()


def tab_of(task: Task) -> str:
    return f"dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}/{task.map_index}"


def open_view(page: Page, system: System, fragment: str) -> None:
    page.open("about:blank")
    page.open(f"{system.airflow.url}/rayagent/#/{fragment}")


@pytest.mark.each_airflow
def test_a_running_job_is_shown_with_its_log_and_can_be_stopped(system: System, page: Page) -> None:
    job_id = system.submit_to_release(
        f"""
print({SCRIPT!r}, flush=True)
print("WARNING: a warning", flush=True)
# So few that the first ones are still drawn if the page comes late.
for number in range(10):
    print("line", number, flush=True)
    time.sleep(0.1)
time.sleep(3600)
"""
    )
    open_view(page, system, "rayagent_default/jobs")
    page.wait_until(lambda text: job_id in text and "RUNNING" in text)
    page.click("a", job_id)
    page.wait_until(lambda text: "line 5" in text and SCRIPT in text)
    # The browser does not draw lines above those that are seen.
    page.wait_for(".line.warning", ["WARNING: a warning"], see="(each) => each.textContent")
    page.click("button", "Stop")
    assert page.find("dialog p") == [f"Stop job {job_id}?"]
    page.click("dialog button", "Stop job")
    page.wait_until(lambda text: "STOPPED" in text and "A stopped job is not retried" in text and "Complete" in text)
    assert page.look("html", see="() => document.hacked === undefined") == [True]
    assert page.look("button", "Stop") == []


@pytest.mark.each_airflow
def test_the_cluster_and_what_waits_for_it_are_shown(system: System, page: Page) -> None:
    job_id = system.submit("print('never')", entrypoint_num_cpus=500)
    try:
        open_view(page, system, "rayagent_default/cluster")
        words = (job_id, "1 alive", "ALIVE", "Waiting for resources: 1 job")
        page.wait_until(lambda text: all(word in text for word in words))
        page.find("progress")
    finally:
        system.agent.request("POST", f"jobs/{job_id}/stop/")


def test_an_application_is_shown_and_deleted(system: System, serve: Serve, page: Page) -> None:
    serve.deploy("page-model")
    open_view(page, system, "rayagent_default/serve")
    page.wait_until(lambda text: "RUNNING\tpage-model" in text)
    page.click("button[data-key=page-model]")
    page.click("dialog button", "Delete page-model")
    page.wait_until(lambda text: "page-model" not in text)


@pytest.mark.each_airflow
def test_the_page_is_in_the_navigation_of_airflow(system: System, tmp_path: Path) -> None:
    with browser_page(system.airflow.url, tmp_path, size=(1280, 900)) as airflow:
        airflow.click("a, button", "Ray")
        wait_until(
            lambda: "Connection" in "".join(airflow.look("iframe", see=IN_FRAME)) or None, "Airflow shows no Ray page"
        )


@pytest.mark.each_airflow
def test_a_job_links_to_the_task_that_submitted_it(system: System, submitted: Task, plain_ray: str) -> None:
    job_id = submitted.xcom("job_id")
    details = ask(system, f"connections/{plain_ray}/jobs/{job_id}")
    expected = {
        "dag_id": submitted.dag_id,
        "run_id": submitted.run_id,
        "task_id": submitted.task_id,
        "map_index": -1,
    }
    assert details["task"] == expected
    [row] = ask(system, f"connections/{plain_ray}/jobs?text={job_id}")["jobs"]
    assert row["task"] == expected
    assert "s3cret" not in str((details, row))


@pytest.mark.each_airflow
def test_the_link_to_the_task_opens_it_in_airflow(
    system: System, submitted: Task, plain_ray: str, tmp_path: Path
) -> None:
    job = f"#/{plain_ray}/jobs/{submitted.xcom('job_id')}"
    link = "each.contentDocument.querySelector(\"a[data-key^='task ']\")"
    with browser_page(f"{system.airflow.url}/plugin/ray", tmp_path, size=(1280, 900)) as airflow:
        airflow.find("iframe")
        wait_until(lambda: any("Jobs" in text for text in airflow.look("iframe", see=IN_FRAME)) or None, "no Ray page")
        airflow.look("iframe", see=f"(each) => {{ each.contentWindow.location.hash = '{job}'; }}")
        wait_until(lambda: airflow.look("iframe", see=f"(each) => !!{link}") == [True] or None, "no link to the task")
        airflow.look("iframe", see=f"(each) => {{ {link}.click(); }}")
        path = f"/dags/{submitted.dag_id}/runs/{quote(submitted.run_id)}/tasks/{submitted.task_id}"
        airflow.wait_for("html", [path], see="() => location.pathname")
        airflow.wait_until(lambda text: "RayAgentSubmitJobOperator" in text)


@pytest.mark.each_airflow
def test_a_job_links_to_the_task_that_follows_it_at_present(system: System) -> None:
    job_id = system.submit_to_release(WAITING)
    task = system.follow(job_id, "system_deferred")
    task.wait_for("deferred")
    expected = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": -1}

    def link() -> Any:
        return ask(system, f"connections/rayagent_default/jobs/{job_id}")["followed_by"]

    assert wait_until(link, "the job does not link to the task") == expected
    system.release(job_id)
    task.assert_ends("success")
    wait_until(lambda: link() is None or None, "the job still links to a task that has ended")


@pytest.mark.each_airflow
def test_a_deferred_task_has_its_job_and_the_use_of_the_cluster(system: System, submitted: Task) -> None:

    def running_job() -> Any:
        found = ask(system, f"{tab_of(submitted)}/job")
        return found if found["status"] == "RUNNING" else None

    details = wait_until(running_job, "the job does not run")
    assert details["job_id"] == submitted.xcom("job_id")
    assert details["task_state"] == "deferred"
    use = ask(system, f"{tab_of(submitted)}/cluster")
    assert use["node_counts"]["alive"] == 1
    assert "nodes" not in use


@pytest.mark.each_airflow
def test_a_failed_task_has_its_job_and_why_it_failed(system: System) -> None:
    job_id = system.submit("raise SystemExit(3)")
    task = system.follow(job_id, "system_plain")
    task.assert_ends("failed")
    details = ask(system, f"{tab_of(task)}/job")
    assert details["job_id"] == job_id
    assert details["reason"].splitlines()[0] in task.text()


@pytest.mark.each_airflow
def test_each_element_of_a_mapped_task_has_its_own_job(system: System) -> None:
    first, second = (system.submit(f"print('element {index}')") for index in range(2))
    mapped = system.start("system_deferred_mapped", "follow_job", first=first, second=second)
    elements = [dataclasses.replace(mapped, map_index=index) for index in range(2)]
    for element in elements:
        element.assert_ends("success")
    assert [ask(system, f"{tab_of(element)}/job")["job_id"] for element in elements] == [first, second]


@pytest.mark.each_airflow
def test_a_stored_id_of_the_job_of_another_task_is_not_shown(system: System, submitted: Task) -> None:
    job_id = system.submit("print('of another task')")
    path = f"dags/{submitted.dag_id}/dagRuns/{submitted.run_id}/taskInstances/{submitted.task_id}/xcomEntries/job_id"
    own = submitted.xcom("job_id")
    try:
        system.api("PATCH", path, value=job_id, map_index=-1)
        assert job_id in submitted.xcom("job_id")
        assert job_id not in str(ask(system, f"{tab_of(submitted)}/job", status=404))
    finally:
        system.api("PATCH", path, value=own, map_index=-1)


@pytest.mark.each_airflow
def test_our_tasks_have_a_tab_where_airflow_can_leave_it_out_elsewhere(
    system: System, submitted: Task, tmp_path: Path
) -> None:
    url = f"{system.airflow.url}/dags/{submitted.dag_id}/runs/{submitted.run_id}/tasks/{submitted.task_id}"
    with browser_page(url, tmp_path, size=(1280, 900)) as airflow:
        airflow.find(f"a[href$='/{submitted.task_id}/details']")
        if not HAS_TAB:
            assert airflow.look("a", "Ray job") == []
            return
        airflow.click("a", "Ray job")
        job_id = submitted.xcom("job_id")
        wait_until(
            lambda: any(job_id in text and "Live" in text for text in airflow.look("iframe", see=IN_FRAME)) or None,
            "the tab does not show the job",
        )
