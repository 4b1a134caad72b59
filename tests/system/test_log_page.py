"""The page of a task's log, as an operator sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.stack.browser import browser_page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.support import System


def test_the_log_page_shows_the_jobs_lines_while_the_task_is_deferred_and_why_it_failed(
    system: System, tmp_path: Path
) -> None:
    """The pictures ``deferred.png`` and ``failed.png`` are in pytest's folder for this test."""
    job_id = system.submit_steady()
    task = system.follow(job_id, "system_deferred")
    task.wait_for("deferred")
    task.wait_for_lines(20)
    url = f"{system.airflow.url}/dags/{task.dag_id}/runs/{task.run_id}/tasks/{task.task_id}"
    with browser_page(url, tmp_path) as page:
        page.wait_until(lambda text: "Deferred" in text and last_line(text) > 20)
        shown = last_line(page.text())
        page.wait_until(lambda text: last_line(text) >= shown + 20)
        page.save_picture(tmp_path / "deferred.png")
        system.stop(job_id).assert_ends("success")
        task.assert_ends("failed")
        page.wait_until(lambda text: "Failed" in text and f"Job {job_id} ended as STOPPED" in text)
        page.save_picture(tmp_path / "failed.png")


def last_line(text: str) -> int:
    """Return the highest number of the steady job's lines in a text."""
    return max((int(number) for number in re.findall(r"\bline (\d+)", text)), default=0)
