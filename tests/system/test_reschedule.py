"""The sensor with mode="reschedule"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stack.airflow import FINAL_TASK_STATES
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.system.support import System

STEADY = """
import pathlib
for n in range(6000):
    print("step", n, flush=True)
    print(flush=True)
    if pathlib.Path(RELEASE).exists():
        break
    time.sleep(0.6)
"""


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
