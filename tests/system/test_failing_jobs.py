"""Jobs that fail in a real Airflow, each for another reason: what their tasks say, in a worker and deferred."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from tests.local.failing_programs import ON_HEAD_ONLY
from tests.stack.watch import wait_until
from tests.system.support import Task

if TYPE_CHECKING:
    from tests.system.support import System

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]
NAMES = list(ON_HEAD_ONLY)


@pytest.fixture(scope="module")
def run(system: System, plain_ray: str) -> Task:
    """Any task of a run whose mapped tasks have the jobs in this order."""
    commands = []
    for name in NAMES:
        script = system.programs / f"{name}.py"
        script.write_text(ON_HEAD_ONLY[name].program, encoding="utf-8")
        commands.append(shlex.join([sys.executable, str(script), str(system.programs / name)]))
    task = system.start("system_failing", "entrypoints", conn_id=plain_ray, entrypoints=commands)

    def are_mapped() -> bool | None:
        instances = task.airflow.task_instances(task.dag_id, task.run_id)
        return sum(each["map_index"] >= 0 for each in instances) == 2 * len(NAMES) or None

    wait_until(are_mapped, "the tasks are not mapped")
    return task


@pytest.mark.parametrize("task_id", ["worker", "deferred"])
@pytest.mark.parametrize("name", NAMES)
def test_the_task_says_why_its_job_has_failed(name: str, task_id: str, run: Task) -> None:
    task = Task(run.airflow, run.dag_id, run.run_id, task_id, NAMES.index(name))
    case = ON_HEAD_ONLY[name]
    task.assert_ends("failed", "up_for_retry")
    text = "\n".join(error["exc_value"] for record in task.records() for error in record.get("error_detail") or ())
    begins = r"The program failed: exit code [13]\. "
    if FailureKind.PROGRAM not in case.kinds:
        begins = "Job " if None in case.kinds else "Platform failure: "
    assert re.match(rf"RA-10\d: {begins}", text), text
    assert len(re.findall("(?m)^(?:What Ray recorded:|Ray recorded no )", text)) == 1, text
    if case.told:
        assert re.search(f"(?m)^  {case.told}", text), text
    assert case.lines in text
