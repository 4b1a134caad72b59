"""A user or a timeout ends a task: its job runs on, or is stopped where that is asked for; in a worker and deferred."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.level import FULL
from tests.stack.processes import is_asleep
from tests.stack.watch import wait_until
from tests.system.kill_table import record
from tests.system.support import DEFERS, WAITING, needs_airflow_3_3
from tests.system.user_acts import (
    ACTS,
    CLEARED,
    DEFERRED,
    DEFERRED_STOPS,
    SENSORS,
    STOPS,
    SUCCESS,
    WORKER,
    WORKER_STOPS,
    Cell,
    UserActs,
    stops_job,
)

if TYPE_CHECKING:
    from tests.system.support import System, Task

pytestmark = [pytest.mark.each_airflow, needs_airflow_3_3("does not tell a trigger that a user has ended its task")]

DAGS = {
    WORKER: "system_plain",
    WORKER_STOPS: "system_stops",
    DEFERRED: "system_deferred",
    DEFERRED_STOPS: "system_deferred_stops",
}
TIMEOUT, EXECUTION_TIMEOUT = "timeout", "execution_timeout"
TIMEOUTS = {
    (TIMEOUT, WORKER): "system_timeout",
    (TIMEOUT, WORKER_STOPS): "system_timeout_stops",
    (TIMEOUT, DEFERRED): "system_deferred_timeout",
    (TIMEOUT, DEFERRED_STOPS): "system_deferred_timeout_stops",
    (EXECUTION_TIMEOUT, WORKER_STOPS): "system_execution_timeout_stops",
    (EXECUTION_TIMEOUT, DEFERRED): "system_deferred_execution_timeout",
    (EXECUTION_TIMEOUT, DEFERRED_STOPS): "system_deferred_execution_timeout_stops",
}
SOFT = ("system_deferred_timeout_soft_fail", "system_timeout_soft_fail")
ALARM: Cell = (EXECUTION_TIMEOUT, WORKER_STOPS)
QUIET = f"""
print("one line")
print("the last line", flush=True)
{WAITING}
"""
if not FULL:
    # The deferred sensors that skip leave their job alone, too.
    TIMEOUTS = {cell: dag_id for cell, dag_id in TIMEOUTS.items() if cell[1] != DEFERRED}
USERS: list[Cell] = [(act, sensor) for act in ACTS for sensor in SENSORS if act != SUCCESS or sensor in STOPS]
CELLS: list[Cell] = [*USERS, *TIMEOUTS]


class Killed(UserActs):
    """All kills: those by users at once, then those by timeouts."""

    def __init__(self, system: System) -> None:
        super().__init__(system, DAGS, USERS, more=TIMEOUTS, in_cluster=system.connect_cluster("killed_clusters"))
        self.jobs[ALARM] = system.submit_to_release(QUIET)
        timeouts = {cell: self._follow_running(cell) for cell in TIMEOUTS}
        self.skipped = [self.follow(self.shared, dag_id) for dag_id in SOFT]
        self._raise_alarm(timeouts[ALARM])
        self.tasks |= {cell: self._timed_out(cell, task) for cell, task in timeouts.items()}
        for task in self.skipped:
            task.wait()
        self.wait_for_stops(TIMEOUTS)
        self.shared_status = system.agent.job(self.shared)["status"]
        self.finish()
        self.rows = {cell: record(self.row(cell)) for cell in CELLS}

    def _raise_alarm(self, task: Task) -> None:
        """Let the timer go off by which Airflow ends a task in a worker.

        If it goes off while the task writes a line, the task waits forever for the lock of its logger.
        """
        task.wait_for_text("the last line")
        pid = task.instance()["pid"]
        wait_until(lambda: is_asleep(pid) or None, f"process {pid} has not written its lines")
        self.system.airflow.components["scheduler"].send(signal.SIGALRM, pid)

    def _timed_out(self, cell: Cell, task: Task) -> Task:
        """Wait until a task has timed out; on a busy machine it may need several runs to defer before that."""
        task.wait()
        if cell[0] == EXECUTION_TIMEOUT and cell != ALARM:
            while DEFERS.format(job_id=self.jobs[cell]) not in task.text():
                self.jobs[cell] = self.system.submit_steady() if cell[1] in STOPS else self.shared
                task = self._follow_running(cell)
                task.wait()
        return task

    def _follow_running(self, cell: Cell) -> Task:
        """Follow the job of a timeout, whose message has its status, once it is RUNNING."""
        self.system.agent.wait(self.jobs[cell], statuses=("RUNNING",))
        return self.follow(self.jobs[cell], TIMEOUTS[cell])


@pytest.fixture(scope="module")
def killed(system: System) -> Killed:
    return Killed(system)


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_job_is_stopped_where_that_is_asked_for_and_there_only(killed: Killed, cell: Cell) -> None:
    expected, task = "STOPPED" if stops_job(cell) else "RUNNING", killed.tasks[cell]
    if cell in TIMEOUTS and killed.statuses[cell] != expected:
        task.excuse_mistake()
    assert killed.statuses[cell] == expected, task.text()


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_lines_up_to_the_kill_are_there_once_and_in_order(killed: Killed, cell: Cell) -> None:
    row = killed.rows[cell]
    assert row.read == row.written
    assert row.read or cell in TIMEOUTS


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_cleared_task_follows_its_job_from_the_first_line(killed: Killed, sensor: str) -> None:
    job_id, task = killed.jobs[CLEARED, sensor], killed.tasks[CLEARED, sensor]
    task.assert_has_ended("failed" if stops_job((CLEARED, sensor)) else "success", 2)
    lines = task.forwarded(try_number=2) + task.deferred(try_number=2)
    assert lines == killed.system.log_of(job_id)
    page = f"{killed.system.agent.ray_address}/#/jobs/{job_id}"
    assert [task.link(try_number) for try_number in (1, 2)] == [page, page]


@pytest.mark.parametrize("cell", TIMEOUTS, ids=" / ".join)
def test_a_timeout_ends_the_task_deferred_as_in_a_worker(killed: Killed, cell: Cell) -> None:
    name = cell[0]
    job_id, task = killed.jobs[cell], killed.tasks[cell]
    task.assert_has_ended("failed" if name == TIMEOUT else "up_for_retry", 1)
    text = task.text()
    sentence = f"Job {job_id} did not end within the {name} of 6 seconds; its status is RUNNING."
    if cell == ALARM:
        assert "AirflowTaskTimeout" in text
    else:
        if sentence not in text:
            task.excuse_mistake()
        assert sentence in text


def test_the_job_of_a_task_that_has_timed_out_runs_on(killed: Killed) -> None:
    assert killed.shared_status == "RUNNING"


def test_with_soft_fail_a_timeout_skips_the_task(killed: Killed) -> None:
    for task in killed.skipped:
        task.assert_ends("skipped")
    deferred, rescheduled = (task.text() for task in killed.skipped)
    assert f"Job {killed.shared} did not end within the timeout of 6 seconds" in deferred
    assert "timeout" in rescheduled or "timed out" in rescheduled
