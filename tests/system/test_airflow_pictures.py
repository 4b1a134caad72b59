"""The pictures of Airflow's pages in the documentation; see :mod:`tests.stack.pictures`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from airflow_provider_rayagent.connection.fields import FIELDS
from tests.stack.browser import Page, browser_page
from tests.stack.job_logs import AFTER_RAY
from tests.stack.pictures import shows
from tests.system.test_connection_form import SECTIONS, unfold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.pictures import Pictures
    from tests.system.support import System, Task

PROGRAMS = {
    "train": r"""
import logging, os, sys, time
logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stdout)
def wait_for(name):
    while not os.path.exists(os.path.join(os.environ["SIGNS"], name)):
        time.sleep(0.1)
def train(epoch, steps):
    for done in range(0, steps + 1, 100):
        bar, clock = "\u2588" * (done // 50), f"[00:{done // 12:02}<00:{(500 - done) // 12:02}, 11.9it/s]"
        print(f"epoch {epoch}: {done // 5:3}%|{bar:10}| {done}/500 {clock}", end="\r", flush=True)
        time.sleep(0.4)
wait_for("train")
print("12,480 rows loaded", flush=True)
for epoch, loss in ((1, 0.71), (2, 0.48)):
    train(epoch, 500)
    logging.info("epoch %d of 3: loss %.2f", epoch, loss)
logging.warning("The learning rate is very low.")
print("\033[32mcheckpoint saved\033[0m, \033[1;35mthe best so far\033[0m", flush=True)
# Ray holds back the last state, whose carriage return could be half of a line break.
train(3, 300)
wait_for("end")
""",
    "tune": """
import os, time
def wait_for(name):
    while not os.path.exists(os.path.join(os.environ["SIGNS"], name)):
        time.sleep(0.1)
wait_for("tune")
for epoch in range(1, 6):
    print(f"epoch {epoch} of 20: loss {1 / epoch:.3f}", flush=True)
    time.sleep(1)
wait_for("end")
""",
    "score": """
print("scoring 12,480 rows", flush=True)
print({"rows": 12_480}["price"])
""",
}
MESSAGE = "[data-scope=toast][data-part=root]"
CLOSE = "(each) => { each.open = false; return true; }"
GRID, HEADER, LOG = "[data-testid=task-{}]", "[data-testid=header-card]", "[data-testid=virtualized-list]"


class Tasks(NamedTuple):
    """Tasks in the states that the pictures show."""

    first: Task
    failed: Task
    running: Task
    deferred: Task


@pytest.fixture(scope="module")
def tasks(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    """Run the tasks, and let two jobs write when they are followed."""
    folder, signs = (tmp_path_factory.mktemp(name) for name in ("nightly", "signs"))
    environment = {"env_vars": {"SIGNS": str(signs)}}
    programs = {name: AFTER_RAY + program for name, program in PROGRAMS.items()}
    jobs = system.submit_programs(programs, folder, "nightly", runtime_env=environment)
    first, failed = system.start("rayagent_first_job", "run_command"), system.follow(jobs["score"])
    first.wait_for("success")
    failed.wait_for("failed")
    running, deferred = system.follow(jobs["train"]), system.follow(jobs["tune"], "system_deferred")
    for name, task in (("train", running), ("tune", deferred)):
        task.wait_for_text("Running entrypoint")
        (signs / name).touch()
    yield Tasks(first, failed, running, deferred)
    (signs / "end").touch()
    for task in (running, deferred):
        task.assert_ends("success")


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


def test_pictures_of_a_log_that_grows(
    system: System, tasks: Tasks, page: Page, pictures: Pictures, tmp_path: Path
) -> None:
    last = "epoch 3:  40%"
    tasks.running.wait_for_text(last)
    open_task(page, tasks.running)
    # How many states of a progress bar are shown depends on the machine.
    ours = " - .*(rows|of 3|learning rate|checkpoint)"
    pictures.check(page, "running-task", shows("Running", last), (HEADER, LOG), alone=True, ours=ours)
    job = f"{system.airflow.url}/rayagent/#/rayagent_default/jobs/nightly-train"
    with browser_page(job, tmp_path, size=(1200, 900)) as ray_page:
        pictures.check(ray_page, "ray-page-job", shows("Live", last), ours="rows|of 3|learning rate|checkpoint")


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


def test_a_picture_of_the_connection_form(system: System, page: Page, pictures: Pictures) -> None:
    page.open(f"{system.airflow.url}/connections")
    page.click("button", "Add Connection")
    page.enter("input[name=connection_id]", "ray_production")
    page.choose("input[role=combobox]", "Ray agent")
    page.enter("input[name=host]", "https://ray.example.com")
    page.enter("input[name=password]", "of-the-picture")
    unfold(page, "Service")
    page.choose("[data-scope=accordion] input[role=combobox]", "ray")
    ours = f"^({'|'.join([*SECTIONS, 'Ray agent', *FIELDS.values()])})$"

    def is_complete(text: str) -> bool:
        # Airflow folds the first section when another one is opened, and needs a moment for it.
        return shows("Ray agent", *SECTIONS)(text) and "Service URL" not in text.splitlines()

    pictures.check(page, "connection-form", is_complete, ("[role=dialog]",), alone=True, ours=ours)


def test_a_picture_of_the_test_of_a_connection(system: System, pictures: Pictures, tmp_path: Path) -> None:
    # Airflow 3.3.1 and 3.3.2 do not test a connection without a port.
    port = urlsplit(system.agent.url).port
    conn_id = system.connect("ray_local", host=system.agent.url.rstrip("/"), port=port)
    # A low window, so that the message is near the list.
    listed = f"{system.airflow.url}/connections?name_pattern={conn_id}"
    with browser_page(listed, tmp_path, size=(1200, 590)) as page:
        page.find("td", conn_id)
        page.click("button", "Test Connection")
        ours = f"{conn_id}|^Connected to "
        pictures.check(page, "connection-test", shows("Connected to"), ("table", MESSAGE), alone=True, ours=ours)
    system.api("DELETE", f"connections/{conn_id}")
