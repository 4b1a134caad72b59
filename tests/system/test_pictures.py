"""The pictures of the Ray page in the documentation, with real jobs; see :mod:`tests.stack.pictures`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.stack.browser import browser_page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.pictures import Pictures
    from tests.system.support import System

SEARCH = "weekly"
"""What the jobs of the pictures have in common, but no others of this Ray."""
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
    for name, program in PROGRAMS.items():
        (folder / f"{name}.py").write_text(program.lstrip(), encoding="utf-8")
    connection = {"conn_type": "rayagent", "host": system.agent.url, "password": system.agent.token}
    release = folder.with_name("release")
    found: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_OF_PICTURES", json.dumps(connection))
        with RayAgentHook("of_pictures") as hook:
            files = hook.upload_working_dir(folder)
            for name in PROGRAMS:
                found[name] = hook.submit_job(
                    f"python {name}.py",
                    job_id=f"{SEARCH}-{name}",
                    runtime_env={"working_dir": files, "env_vars": {"RELEASE": str(release)}},
                    metadata={"owner": "ada", "schedule": SEARCH},
                )
            for name, status in STARTED.items():
                system.agent.wait(found[name], statuses=(status,))
            hook.stop_job(found["export"])
            system.agent.wait(found["export"], statuses=("STOPPED",))
    return found


def test_pictures_of_jobs(system: System, jobs: dict[str, str], pictures: Pictures, tmp_path: Path) -> None:
    url = f"{system.airflow.url}/rayagent/#/rayagent_default"
    wide = tmp_path / "wide"
    wide.mkdir()
    with browser_page(f"{system.airflow.url}/rayagent/", wide, size=(1280, 900)) as page:

        def open_view(fragment: str) -> None:
            page.open("about:blank")
            page.open(f"{url}/{fragment}")

        for theme in ("light", "dark"):
            page.find("h1")
            page.look("html", see=f"() => {{ localStorage.setItem('theme', '{theme}'); }}")
            open_view("jobs")
            page.enter("input[type=search]", SEARCH)
            page.wait_until(lambda text: f"{len(jobs)} jobs" in text)
            pictures.check(page, f"ray-page-jobs-{theme}")
        page.look("html", see="() => { localStorage.setItem('theme', 'light'); }")
        open_view(f"jobs/{jobs['train']}")
        page.wait_until(lambda text: "learning rate" in text and "Live" in text)
        pictures.check(page, "ray-page-job")
        open_view(f"jobs/{jobs['score']}")
        page.wait_until(lambda text: "has no column" in text and "Complete" in text)
        pictures.check(page, "ray-page-failed-job")
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    with browser_page(f"{url}/jobs/{jobs['train']}", narrow, size=(600, 900)) as page:
        page.wait_until(lambda text: "learning rate" in text and "Live" in text)
        pictures.check(page, "ray-page-narrow")
    system.agent.request("POST", f"jobs/{jobs['train']}/stop/")
    system.agent.wait(jobs["train"])
