"""The sensor's other ways: soft_fail, mode="reschedule", timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.airflow import FINAL_TASK_STATES
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.system.support import System

SLEEPS = "import time; print('asleep', flush=True); time.sleep(3600)"
STEADY = """
import pathlib
for n in range(6000):
    print("step", n, flush=True)
    print(flush=True)
    if pathlib.Path(RELEASE).exists():
        break
    time.sleep(0.6)
"""


@pytest.mark.full
def test_with_soft_fail_a_job_that_fails_skips_the_task(system: System) -> None:
    job_id = system.submit("raise SystemExit('no luck')")
    task = system.follow(job_id, "system_soft_fail")
    task.assert_ends("skipped")
    assert task.forwarded() == system.log_of(job_id)
    assert f"Job {job_id} ended as FAILED" in task.text()
    assert task.xcom()["status"] == "FAILED"


def test_with_reschedule_the_slot_is_free_between_looks_and_no_line_comes_twice(system: System) -> None:
    job_id = system.submit_to_release(STEADY)
    task = system.follow(job_id, "system_reschedule")
    processes, counts = set(), set()

    def has_looked_often() -> bool | None:
        instance = task.instance()
        assert instance["state"] not in FINAL_TASK_STATES, task.text()
        processes.add(instance["pid"])
        if instance["state"] == "up_for_reschedule":
            counts.add(len(task.forwarded()))
        return (len(processes - {None}) >= 3 and len(counts - {0}) >= 2) or None

    # Each look is a process of its own, and forwards what is new.
    wait_until(has_looked_often, "not looked at three times")
    system.release(job_id)
    task.assert_ends("success")
    lines = task.forwarded()
    assert lines == system.log_of(job_id)
    steps = (len(lines) - lines.index("step 0")) // 2
    assert lines[-2 * steps :] == [line for step in range(steps) for line in (f"step {step}", "")]
    assert task.xcom()["status"] == "SUCCEEDED"


def test_a_job_that_runs_longer_than_the_timeout_fails_the_task_and_runs_on(system: System) -> None:
    job_id = system.submit(SLEEPS)
    wait_until(lambda: "asleep" in system.log_of(job_id) or None, f"job {job_id} has printed nothing")
    hard = system.follow(job_id, "system_timeout")
    soft = system.follow(job_id, "system_timeout_soft_fail")

    hard.assert_ends("failed")
    assert hard.instance()["try_number"] == 1, "there is no retry after a timeout"
    assert f"Job {job_id} did not end within the timeout of 6 seconds; its status is RUNNING." in hard.text()
    soft.assert_ends("skipped")
    assert "timeout" in soft.text() or "timed out" in soft.text(), "a skipped task says why"
    assert system.agent.job(job_id)["status"] == "RUNNING"

    def has_shown_the_line() -> bool | None:
        hard.assert_ends("failed")
        if "asleep" in hard.forwarded(hard.instance()["try_number"]):
            return True
        # On a busy machine the time can be up before the log is read.
        system.airflow.clear(hard.dag_id, hard.run_id)
        return None

    wait_until(has_shown_the_line, "no try has shown the job's line")
    system.stop(job_id).assert_ends("success")
