"""The sensor with deferrable=True: the same outcomes and lines as in a worker, without a worker."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import wait_until
from tests.system.support import DEFERS, IS_AIRFLOW_3_2, Task
from tests.system.test_follow import FAILS, LINES, PRINTS, shown

if TYPE_CHECKING:
    from tests.system.support import System

MANY = 100_000
PRINTS_MANY = f"for number in range({MANY}): print('line', number)"
NOTHING = "print('nothing to wait for')"


class Deferred:
    """Jobs by what they do, and the tasks that follow them; all at once, since time is short."""

    def __init__(self, system: System) -> None:
        self.jobs = {
            "steady": system.submit_steady(),
            "prints": system.submit_waiting(PRINTS),
            "many": system.submit_waiting(PRINTS_MANY),
            "fails": system.submit_waiting(FAILS),
        }
        self.tasks = {name: system.follow(job_id, "system_deferred") for name, job_id in self.jobs.items()}
        self.twin = system.follow(self.jobs["prints"], "system_deferred")
        self.soft = system.follow(self.jobs["fails"], "system_deferred_soft_fail")
        run = system.start(
            "system_deferred_mapped", "follow_job", first=self.jobs["prints"], second=self.jobs["steady"]
        )
        self.mapped = [Task(run.airflow, run.dag_id, run.run_id, run.task_id, index) for index in (0, 1)]
        for task in (*self.tasks.values(), self.twin, self.soft):
            task.wait_for("deferred")
        wait_until(lambda: len(run.airflow.task_instances(run.dag_id, run.run_id)) == 2 or None, "not mapped")
        for task in self.mapped:
            task.wait_for("deferred")

    def named(self, name: str) -> tuple[str, Task]:
        """Return a job and its task."""
        return self.jobs[name], self.tasks[name]


@pytest.fixture(scope="module")
def deferred(system: System) -> Deferred:
    return Deferred(system)


@pytest.mark.each_airflow
def test_lines_come_while_the_task_is_deferred_and_has_no_process(system: System, deferred: Deferred) -> None:
    job_id, task = deferred.named("steady")
    task.wait_for_lines(20)
    task.wait_for_lines(len(task.deferred()) + 20)
    instance = task.instance()
    assert instance["state"] == "deferred"
    # Airflow sets the state before the worker's process has ended.
    scheduler = system.airflow.components["scheduler"]
    wait_until(lambda: instance["pid"] not in scheduler.members() or None, f"process {instance['pid']} has not ended")
    assert task.instance()["state"] == "deferred"
    assert DEFERS.format(job_id=job_id) in task.text()
    assert task.forwarded() == []


@pytest.mark.each_airflow
def test_every_line_of_a_job_is_in_the_task_log_once_in_order_and_unchanged(system: System, deferred: Deferred) -> None:
    job_id, task = deferred.named("prints")
    system.release(job_id)
    for each in (task, deferred.twin, deferred.mapped[0]):
        each.assert_ends("success")
        lines = each.deferred()
        assert lines[-len(LINES) :] == shown(LINES)
        assert lines == shown(system.log_of(job_id))
        assert each.xcom()["status"] == "SUCCEEDED"


def test_the_last_of_very_many_lines_is_there_when_the_task_is_green(system: System, deferred: Deferred) -> None:
    job_id, task = deferred.named("many")
    system.release(job_id)
    task.assert_ends("success")
    lines = task.deferred()
    assert len(lines) > MANY
    assert lines == system.log_of(job_id)


@pytest.mark.each_airflow
def test_a_job_that_fails_fails_the_task_and_the_worker_repeats_why(system: System, deferred: Deferred) -> None:
    job_id, task = deferred.named("fails")
    system.release(job_id)
    task.assert_ends("failed")
    assert task.instance()["try_number"] == 1, "there is no retry"
    assert task.deferred() == system.log_of(job_id)
    of_sensor = [record for record in task.records() if str(record.get("logger")).endswith("RayAgentJobSensor")]
    # Before Airflow 3.3 the trigger has no place to save the last lines for the worker.
    assert any("about to fail" in record["event"] for record in of_sensor) is not IS_AIRFLOW_3_2
    assert f"RA-101: The program failed: exit code 3. Job {job_id} ended as FAILED" in task.text()
    assert set(re.findall(r"RA-\d+", task.text())) == {"RA-101"}
    assert "Job entrypoint command failed with exit code 3" in task.text()
    details = task.xcom()
    assert (details["status"], details["driver_exit_code"]) == ("FAILED", 3)
    deferred.soft.assert_ends("skipped")


def test_all_tasks_of_a_job_end_with_it(system: System, deferred: Deferred) -> None:
    job_id, task = deferred.named("steady")
    system.release(job_id)
    for each in (task, deferred.mapped[1]):
        each.assert_ends("success")
        assert each.deferred() == system.log_of(job_id)


def test_a_job_that_has_ended_is_concluded_without_a_deferral(system: System) -> None:
    job_id = system.submit(NOTHING)
    system.agent.wait(job_id)
    task = system.follow(job_id, "system_deferred")
    task.assert_ends("success")
    assert task.forwarded() == system.log_of(job_id)
    assert DEFERS.format(job_id=job_id) not in task.text()
    assert task.xcom()["status"] == "SUCCEEDED"
