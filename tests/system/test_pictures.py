"""The pictures of the Ray page in the documentation, with real jobs; see :mod:`tests.stack.pictures`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.stack.browser import browser_page
from tests.stack.job_logs import AFTER_RAY
from tests.stack.pictures import shows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.pictures import Pictures
    from tests.system.support import System

SEARCH = "weekly"
"""What the jobs of the pictures have in common, but no others of this Ray."""
SEARCH_IN_FRAME = f"""
(each) => {{
    const field = each.contentDocument?.querySelector("input[type=search]");
    if (field && field.value !== "{SEARCH}") {{
        field.value = "{SEARCH}";
        field.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }}
}}
"""
PROGRAMS = {
    "import": 'print("12,480 rows imported")',
    "train": """
import logging, os, sys, time
logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stdout)
for epoch in range(1, 6):
    logging.info("epoch %d of 20: loss %.3f", epoch, 1 / epoch)
logging.warning("The learning rate was reduced.")
while not os.path.exists(os.environ["RELEASE"]):
    time.sleep(0.1)
""",
    "score": """
import sys
print("INFO: scoring 12,480 rows", flush=True)
print("ERROR: rows.parquet has no column 'price'", flush=True)
sys.exit(1)
""",
    "export": "import time; time.sleep(3600)",
}
STARTED = {"import": "SUCCEEDED", "score": "FAILED", "train": "RUNNING", "export": "RUNNING"}
"""The statuses that the jobs reach."""


@pytest.fixture(scope="module")
def jobs(system: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The ids of jobs of each status, by name."""
    folder = tmp_path_factory.mktemp(SEARCH)
    environment = {"env_vars": {"RELEASE": str(folder.with_name("release"))}}
    metadata = {"owner": "ada", "schedule": SEARCH}
    programs = {name: AFTER_RAY + program for name, program in PROGRAMS.items()}
    found = system.submit_programs(programs, folder, SEARCH, runtime_env=environment, metadata=metadata)
    for name, status in STARTED.items():
        system.agent.wait(found[name], statuses=(status,))
    system.agent.request("POST", f"jobs/{found['export']}/stop/")
    system.agent.wait(found["export"], statuses=("STOPPED",))
    return found


def test_a_picture_of_the_list_of_jobs_in_airflow(
    system: System, jobs: dict[str, str], pictures: Pictures, tmp_path: Path
) -> None:
    counted = re.compile(rf"^{len(jobs)} jobs$", re.MULTILINE)
    with browser_page(f"{system.airflow.url}/plugin/ray", tmp_path, size=(1280, 600)) as page:

        def is_listed(text: str) -> bool:
            page.look("iframe", see=SEARCH_IN_FRAME)
            return bool(counted.search(text))

        pictures.check(page, "ray-page-jobs", is_listed, ("iframe",))


def test_a_picture_of_a_failed_job(system: System, jobs: dict[str, str], pictures: Pictures, tmp_path: Path) -> None:
    job = f"{system.airflow.url}/rayagent/#/rayagent_default/jobs/{jobs['score']}"
    with browser_page(job, tmp_path, size=(1280, 900)) as page:
        pictures.check(page, "ray-page-failed-job", shows("has no column", "Complete"))


def test_picture_of_the_tab_of_a_task(system: System, jobs: dict[str, str], pictures: Pictures, tmp_path: Path) -> None:
    """The page that Airflow 3.4 shows in a frame; before, there is no tab, but the page itself exists."""
    task = system.follow(jobs["train"], "system_deferred")
    task.wait_for("deferred")
    query = urlencode({name: getattr(task, name) for name in ("dag_id", "run_id", "task_id", "map_index")})
    with browser_page(f"{system.airflow.url}/rayagent/task?{query}", tmp_path, size=(1280, 900)) as page:
        pictures.check(page, "ray-page-task", shows("learning rate", "Live", "alive"))
    system.agent.request("POST", f"jobs/{jobs['train']}/stop/")
    task.wait()
