"""What a job reports while it runs, in a real Airflow: XComs, a button, an asset's event, progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.page_urls import JOB_PAGE
from airflow_provider_rayagent.links.rayagent import XCOM_KEYS
from airflow_provider_rayagent.text.xcom_keys import key_of_printed_link
from tests.stack.browser import browser_page
from tests.stack.watch import wait_until
from tests.system.support import IS_AIRFLOW_3_2, Task

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.support import System

pytestmark = pytest.mark.each_airflow

REPORT = "https://reports.example.com/?run=7&x=%22"
FORGED = 'the user entered __RAYAGENT_MESSAGE__ {"kind": "xcom", "data": {"forged": 1}}'
MODES = ("worker", "deferred")


class Reports:
    """A run of each mode, what was there while the jobs ran, and the page of a running job."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        release = folder / "now"
        self.tasks = {mode: system.start(f"system_messages_{mode}", "reports", release=str(release)) for mode in MODES}
        for mode, task in self.tasks.items():
            if mode == "worker" or not IS_AIRFLOW_3_2:
                # The XComs of one message are pushed one after the other.
                found = lambda task=task: task.xcom("loss") and self.links(task)["Report"]  # noqa: E731
                wait_until(found, f"{task.dag_id}: no XCom, or no link, while the job runs")
        self.early = {mode: (task.xcom("loss"), self.links(task)["Report"]) for mode, task in self.tasks.items()}
        with browser_page("about:blank", folder, size=(1280, 900)) as page:
            job_id = wait_until(lambda: self.tasks["worker"].xcom("job_id"), "there is no job")
            page.open(f"{system.airflow.url}/rayagent/#/rayagent_default/jobs/{job_id}")
            self.bar = page.find(".reported .bar")
            self.buttons = page.look(".reported a", see="(each) => [each.textContent, each.href]")
            page.save_picture(folder / "reports.png")
        release.touch()
        for task in self.tasks.values():
            task.wait()

    def links(self, task: Task) -> dict[str, str | None]:
        """Return the buttons of a task."""
        return self.system.airflow.extra_links(task.dag_id, task.run_id, task.task_id)


@pytest.fixture(scope="module")
def reports(system: System, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return Reports(system, tmp_path_factory.mktemp("reports"))


@pytest.mark.parametrize("mode", MODES)
def test_xcoms_and_buttons_are_there_while_the_job_runs(reports: Reports, mode: str) -> None:
    if mode == "deferred" and IS_AIRFLOW_3_2:
        pytest.skip("before Airflow 3.3 a trigger pushes no XComs")
    assert reports.early[mode] == (1.0, REPORT)


@pytest.mark.parametrize("mode", MODES)
def test_xcoms_and_buttons_are_there_at_the_end(reports: Reports, mode: str) -> None:
    task = reports.tasks[mode]
    task.assert_ends("success")
    found = {key: task.xcom(key) for key in ("loss", "best", "forged", "return_value")}
    assert found == {"loss": 0.5, "best": None, "forged": None, "return_value": 7}
    links = reports.links(task)
    assert (links["Report"], links["Never printed"]) == (REPORT, None)
    # The connection has no URLs for these, and the job has printed none.
    keys = {key for field, key in XCOM_KEYS.items() if field != JOB_PAGE} | {key_of_printed_link("Never printed")}
    assert {key: task.xcom(key) for key in keys} == dict.fromkeys(keys)


@pytest.mark.parametrize("mode", MODES)
def test_the_log_has_the_lines_once_and_progress_instead_of_its_messages(reports: Reports, mode: str) -> None:
    task = reports.tasks[mode]
    text = task.text()
    lines = [*task.deferred(), *task.forwarded()]
    # What tells Airflow something is not shown, but for the two that have no effect.
    assert [lines.count(line) for line in lines if "__RAYAGENT_" in line] == [1] * 3
    assert FORGED in lines
    assert "[outcome of" not in text
    assert text.count("Progress: 25% (1 of 4): epoch 1") == text.count("Progress: 100% (4 of 4)") == 1
    assert text.count("RA-310: A message of the job has no effect: Airflow or this provider uses") == 1
    assert text.count("RA-310: A message of the job has no effect: the key of an XCom must be") == 1


def test_no_message_starts_a_run_of_another_dag(reports: Reports) -> None:
    assert reports.system.api("GET", "dags/system_messages_idle/dagRuns")["dag_runs"] == []


@pytest.mark.parametrize("mode", MODES)
def test_the_event_of_the_asset_has_what_the_job_adds(reports: Reports, mode: str) -> None:
    task = reports.tasks[mode]
    found = reports.system.api("GET", f"assets/events?source_dag_id={task.dag_id}&source_run_id={task.run_id}")
    [event] = found["asset_events"]
    assert {**event["extra"], "duration": None} == {"rows": 7, "job_id": task.xcom("job_id"), "duration": None}


def test_the_page_of_the_job_has_a_bar_and_a_button(reports: Reports) -> None:
    assert reports.bar == ["25% (1 of 4): epoch 1"]
    assert reports.buttons == [["Report", REPORT]]


def test_the_example_uses_a_value_of_the_running_job_in_the_next_task(system: System) -> None:
    train = system.start("rayagent_messages", "train", epochs=3)
    train.assert_ends("success")
    check = Task(system.airflow, train.dag_id, train.run_id, "check")
    check.assert_ends("success")
    assert (train.xcom("loss"), check.xcom()) == (0.125, True)
