"""The pictures of Airflow's pages in the documentation; see :mod:`tests.stack.pictures`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from airflow_provider_rayagent.connection.fields import FIELDS
from tests.stack.browser import Page, browser_page
from tests.stack.job_logs import AFTER_RAY
from tests.stack.pictures import shows
from tests.stack.watch import wait_until
from tests.system.test_connection_form import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.pictures import Pictures
    from tests.system.support import System, Task

PROGRAMS = {
    "report": r"""
import logging, sys
logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stdout)
print("12,480 rows loaded")
logging.info("epoch 1 of 3: loss 0.71")
logging.warning("The learning rate is very low.")
print('{"level": "error", "message": "rows.parquet has no column price"}')
print("\033[32mcheckpoint saved\033[0m, \033[1;35mthe best so far\033[0m", flush=True)
""",
    "train": """
import os, time
for epoch in range(1, 6):
    print(f"epoch {epoch} of 20: loss {1 / epoch:.3f}", flush=True)
while not os.path.exists(os.environ["RELEASE"]):
    time.sleep(0.1)
""",
    "score": """
print("scoring 12,480 rows", flush=True)
print({"rows": 12_480}["price"])
""",
}
CONN = "ray_production"
MESSAGE = "[data-scope=toast][data-part=root]"
CLOSE = "(each) => { each.open = false; return true; }"
GRID, HEADER, LOG = "[data-testid=task-{}]", "[data-testid=header-card]", "[data-testid=virtualized-list]"


class Tasks(NamedTuple):
    """Tasks in the states that the pictures show."""

    first: Task
    failed: Task
    report: Task
    deferred: Task


@pytest.fixture(scope="module")
def tasks(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    """Run the tasks at the same time: jobs on Ray take most of it."""
    first = system.start("rayagent_first_job", "run_command")
    environment = {"env_vars": {"RELEASE": str(system.programs / "train")}}
    folder = tmp_path_factory.mktemp("nightly")
    programs = {name: AFTER_RAY + program for name, program in PROGRAMS.items()}
    jobs = system.submit_programs(programs, folder, "nightly", runtime_env=environment)
    system.agent.wait(jobs["train"], statuses=("RUNNING",))
    deferred = system.follow(jobs["train"], "system_deferred")
    report, failed = (system.follow(jobs[name]) for name in ("report", "score"))

    for task, state in ((first, "success"), (report, "success"), (failed, "failed")):
        task.wait_for(state)
    yield Tasks(first, failed, report, deferred)
    system.release("train")
    deferred.assert_ends("success")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page("about:blank", tmp_path_factory.mktemp("airflow-pictures"), size=(1200, 980)) as opened:
        yield opened


def open_task(page: Page, task: Task, tab: str = "") -> None:
    page.open(f"{task.airflow.url}/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}{tab}")
    page.find(f"[data-testid=grid-{task.run_id}-{task.task_id}] svg", see="(each) => true")


def test_a_picture_of_the_quick_start(tasks: Tasks, page: Page, pictures: Pictures) -> None:
    steps = [line for line in tasks.first.forwarded() if line.startswith("step")]
    assert steps == [f"step {step} of 5" for step in range(1, 6)]
    open_task(page, tasks.first)
    parts = (GRID.format("run_command"), HEADER, LOG)
    ours = r"^run_command$|^RayAgent| - (Started job|step|Job) "
    pictures.check(page, "task-log", shows("Success", "step 5 of 5", "printed no result"), parts, ours=ours)


def test_a_picture_of_the_link_to_the_job(tasks: Tasks, page: Page, pictures: Pictures) -> None:
    open_task(page, tasks.first, "/details")
    parts = (HEADER, "a[href*='/#/jobs/']")
    pictures.check(page, "job-link", shows("Success"), parts, ours="^run_command$|^RayAgent|^Ray job$")


def test_a_picture_of_levels_and_colors(tasks: Tasks, page: Page, pictures: Pictures) -> None:
    open_task(page, tasks.report)
    ours = " - .*(rows|epoch|learning rate|checkpoint)"
    pictures.check(page, "log-levels", shows("Success", "the best so far"), (HEADER, LOG), alone=True, ours=ours)


def test_a_picture_of_a_failed_task(tasks: Tasks, page: Page, pictures: Pictures) -> None:
    open_task(page, tasks.failed)
    page.find(f"{LOG} details[open]", see=CLOSE)
    ours = r"^follow_job$|^Failed$|^RayAgent| - (scoring|RA-101)|KeyError|^(Details|Ray's message|Ray recorded|Check)"
    pictures.check(page, "failed-task", shows("Failed", "RA-101", "KeyError"), (HEADER, LOG), alone=True, ours=ours)


def test_a_picture_of_a_deferred_task(tasks: Tasks, page: Page, pictures: Pictures) -> None:
    tasks.deferred.wait_for_text("epoch 5 of 20")
    open_task(page, tasks.deferred)
    ours = "^follow_job$|^Deferred$|^RayAgent| - (Deferring|epoch)"
    pictures.check(page, "deferred-task", shows("Deferred", "epoch 5 of 20"), (HEADER, LOG), alone=True, ours=ours)


def test_pictures_of_the_connection_form_and_its_test(
    system: System, page: Page, pictures: Pictures, tmp_path: Path
) -> None:
    connections = f"{system.airflow.url}/connections?name_pattern={CONN}"
    page.open(connections)
    page.click("button", "Add Connection")
    page.enter("input[name=connection_id]", CONN)
    page.choose("input[role=combobox]", "Ray agent")
    page.enter("input[name=host]", system.agent.url.rstrip("/"))
    page.enter("input[name=password]", system.agent.token)
    page.enter("input[name=port]", str(urlsplit(system.agent.url).port))
    ours = f"^({'|'.join([*SECTIONS, 'Ray agent', *FIELDS.values()])})$"
    pictures.check(page, "connection-form", shows("Ray agent", *SECTIONS), ("[role=dialog]",), alone=True, ours=ours)

    page.click("button", "Save")
    stored = f"connections?connection_id_pattern={CONN}"
    wait_until(lambda: system.api("GET", stored)["total_entries"] or None, "the connection is not stored")
    # A low window, so that the message is near the list.
    with browser_page(connections, tmp_path, size=(1200, 590)) as listed:
        listed.find("td", CONN)
        listed.click("button", "Test Connection")
        ours = f"{CONN}|^Connected to "
        pictures.check(listed, "connection-test", shows("Connected to"), ("table", MESSAGE), alone=True, ours=ours)
    system.api("DELETE", f"connections/{CONN}")
