"""Jobs that hang in a real Airflow: the task log says what runs, the task fails, and the next try continues."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Task

if TYPE_CHECKING:
    from tests.system.support import System

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

PROGRAM = """
import os, time, ray
print("begins", flush=True)
if "RAYAGENT_PREVIOUS_JOB_ID" not in os.environ:
    ray.init(log_to_driver=False)
    @ray.remote(num_cpus=0)
    def load_block(): time.sleep(3600)
    ray.get(load_block.remote())
print("continues after", os.environ["RAYAGENT_PREVIOUS_JOB_ID"], flush=True)
"""


def test_a_job_that_hangs_is_stopped_and_the_next_try_continues(system: System, plain_ray: str) -> None:
    script = system.programs / "stalled.py"
    script.write_text(PROGRAM, encoding="utf-8")
    entrypoint = shlex.join([sys.executable, str(script)])
    worker = system.start("system_stalled", "worker", conn_id=plain_ray, entrypoint=entrypoint)
    deferred = Task(worker.airflow, worker.dag_id, worker.run_id, "deferred")
    for task in (worker, deferred):
        task.wait_for("success", "failed")
        task.assert_has_ended("success", 2)
        first, second = task.text(1), task.text(2)
        assert re.search(r"RA-113: Job \S+ has stalled: .*1 task load_block, since ", first), first
        assert re.search(r"Job \S+ has written nothing for \S+ \w+\. What runs:", first), first
        (previous,) = re.findall(r"continues after (\S+)", second)
        assert system.agent.job(previous)["status"] == "STOPPED"
        lines = [task.forwarded(number) + task.deferred(number) for number in (1, 2)]
        # Ray writes some, too.
        assert [sum("begins" in line for line in each) for each in lines] == [1, 1]
