"""The example DAG that follows a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.support import System, Task

LINES = [
    "first",
    "",
    "    four spaces before, and four after    ",
    "\ta tab before\tand within\t",
    "the same",
    "the same",
    "the same",
    "",
    "",
    "é 漢字 😀 \u2028 \u202e \x1b[31mred\x1b[0m",
    '{"type": "complete"}',
    "100% %s %d {} {0}",
    "x" * 15_000,
    *(f"many {number}" for number in range(500)),
    "the last one has no newline",
]
PRINTS = f"import sys; sys.stdout.write('\\n'.join({LINES!r}))"
FAILS = "print('about to fail', flush=True); raise SystemExit(3)"
STEPS, GAP = 10, 12.0
LONG = f"""
import pathlib
for step in range({2 * STEPS}):
    if step == {STEPS}:
        while not pathlib.Path(RELEASE).exists():
            time.sleep(0.1)
        time.sleep({GAP})
    print("step", step, flush=True)
while not pathlib.Path(RELEASE + "-end").exists():
    time.sleep(0.1)
"""


def shown(lines: list[str]) -> list[str]:
    """Return lines as a task log has them: what would break or turn one in the log view is there by its number."""
    return [line.replace("\u2028", r"\u2028").replace("\u202e", r"\u202e") for line in lines]


@pytest.fixture(scope="module")
def followed(system: System) -> dict[str, tuple[str, Task]]:
    """Jobs by what they do, each with the task that follows it; all at once, since time is short."""
    jobs = {
        "long": system.submit_to_release(LONG),
        "prints": system.submit(PRINTS, metadata={"team": "tests"}),
        "fails": system.submit(FAILS),
    }
    return {name: (job_id, system.follow(job_id)) for name, job_id in jobs.items()}


@pytest.mark.each_airflow
def test_every_line_of_the_job_is_in_the_task_log_once_in_order_and_unchanged(
    system: System, followed: dict[str, tuple[str, Task]]
) -> None:
    job_id, task = followed["prints"]
    task.assert_ends("success")
    assert system.airflow.wait_for_run(task.dag_id, task.run_id) == "success"
    lines = task.forwarded()
    assert lines[-len(LINES) :] == shown(LINES)
    assert lines == shown(system.log_of(job_id))


def test_the_details_of_the_job_are_in_the_tasks_xcom(system: System, followed: dict[str, tuple[str, Task]]) -> None:
    job_id, task = followed["prints"]
    task.wait()
    details, job = task.xcom(), system.agent.job(job_id)
    assert details.pop("duration") == pytest.approx((job["end_time"] - job["start_time"]) / 1000)
    assert details == {
        "job_id": job_id,
        "submission_id": job_id,
        "driver_job_id": job["job_id"],
        "type": "SUBMISSION",
        "status": "SUCCEEDED",
        "message": job["message"],
        "error_type": None,
        "entrypoint": job["entrypoint"],
        "start_time": job["start_time"],
        "end_time": job["end_time"],
        "driver_exit_code": 0,
        "driver_node_id": job["driver_node_id"],
        "metadata": {"team": "tests"},
    }


def test_a_job_that_fails_fails_the_task_without_a_retry_and_with_the_words_of_ray(
    system: System, followed: dict[str, tuple[str, Task]]
) -> None:
    job_id, task = followed["fails"]
    task.assert_ends("failed")
    instance = task.instance()
    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert task.forwarded() == system.log_of(job_id)
    assert f"RA-101: The program failed: exit code 3. Job {job_id} ended as FAILED" in task.text()
    assert set(re.findall(r"RA-\d+", task.text())) == {"RA-101"}
    assert "Job entrypoint command failed with exit code 3" in task.text()
    details = task.xcom()
    assert (details["status"], details["driver_exit_code"]) == ("FAILED", 3)
    assert "exit code 3" in details["message"]


def test_a_job_that_the_agent_does_not_know_is_named_and_tried_again_later(system: System) -> None:
    job_id = "nobody-knows-this-job"
    task = system.follow(job_id, "system_missing")
    task.assert_ends("up_for_retry")
    assert f"Job {job_id} still does not exist" in task.text()


def test_lines_come_while_the_job_runs_and_go_on_after_a_silence(
    system: System, followed: dict[str, tuple[str, Task]]
) -> None:
    job_id, task = followed["long"]
    task.wait_for_text(f"step {STEPS - 1}")
    system.release(job_id)
    task.wait_for_text(f"step {2 * STEPS - 1}")
    assert system.agent.job(job_id)["status"] == "RUNNING"
    system.release(f"{job_id}-end")
    task.assert_ends("success")
    lines = task.forwarded()
    assert lines == system.log_of(job_id)
    assert lines[-2 * STEPS :] == [f"step {step}" for step in range(2 * STEPS)]
