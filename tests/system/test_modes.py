"""The sensor's other ways: soft_fail, mode="reschedule", timeout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.stack.airflow import FINAL_TASK_STATES

if TYPE_CHECKING:
    from tests.system.support import System

SLEEPS = "import time; print('asleep', flush=True); time.sleep(600)"
STEPS = 20
STEADY = f"import time\nfor n in range({STEPS}): print('step', n, flush=True); print(flush=True); time.sleep(0.6)"


def test_with_soft_fail_a_job_that_fails_skips_the_task(system: System) -> None:
    job_id = system.submit("raise SystemExit('no luck')")
    task = system.follow(job_id, "system_soft_fail")
    task.assert_ends("skipped")
    assert task.forwarded() == system.log_of(job_id)
    assert f"Job {job_id} ended as FAILED" in task.text()
    assert task.xcom()["status"] == "FAILED"


def test_with_reschedule_the_slot_is_free_between_looks_and_no_line_comes_twice(system: System) -> None:
    job_id = system.submit(STEADY)
    task = system.follow(job_id, "system_reschedule")
    between: list[int] = []
    processes = set()
    deadline = time.monotonic() + 90
    while (instance := task.instance())["state"] not in FINAL_TASK_STATES:
        assert time.monotonic() < deadline, instance["state"]
        if instance["state"] == "up_for_reschedule":
            between.append(len(task.forwarded()))
        processes.add(instance["pid"])
        time.sleep(0.3)

    assert instance["state"] == "success"
    assert len(processes - {None}) >= 3, "each look is a process of its own"
    lines = task.forwarded()
    assert lines == system.log_of(job_id)
    assert lines[-2 * STEPS :] == [line for step in range(STEPS) for line in (f"step {step}", "")]
    assert any(0 < count < len(lines) for count in between), "each look forwards what is new"
    assert task.xcom()["status"] == "SUCCEEDED"


def test_a_job_that_runs_longer_than_the_timeout_fails_the_task_and_runs_on(system: System) -> None:
    job_id = system.submit(SLEEPS)
    system.agent.wait(job_id, statuses=("RUNNING",))
    hard = system.follow(job_id, "system_timeout")
    soft = system.follow(job_id, "system_timeout_soft_fail")

    hard.assert_ends("failed")
    assert hard.instance()["try_number"] == 1, "there is no retry after a timeout"
    assert "asleep" in hard.forwarded()
    assert f"Job {job_id} has not ended within the timeout of 6 seconds; it is RUNNING." in hard.text()
    assert hard.instance()["duration"] < 20
    soft.assert_ends("skipped")
    assert "timeout" in soft.text() or "timed out" in soft.text(), "a skipped task says why"
    assert system.agent.job(job_id)["status"] == "RUNNING"

    system.stop(job_id).assert_ends("success")
