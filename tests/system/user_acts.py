"""Users end tasks: the jobs that should stop, those that should not, and the lines up to that moment."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from tests.stack.watch import WaitError, wait_until
from tests.system.kill_table import AGENT, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from tests.stack.airflow import Airflow
    from tests.system.support import System, Task

WORKER, WORKER_STOPS = "worker", "worker, stops the job"
DEFERRED, DEFERRED_STOPS = "deferred", "deferred, stops the job"
SENSORS = (WORKER, WORKER_STOPS, DEFERRED, DEFERRED_STOPS)
STOPS = (WORKER_STOPS, DEFERRED_STOPS)
FAILED, SUCCESS, CLEARED = "user: marks failed", "user: marks success", "user: clears"
ACTS: dict[str, Callable[[Airflow, Task], object]] = {
    FAILED: lambda airflow, task: airflow.set_state(task.dag_id, task.run_id, task.task_id, "failed"),
    SUCCESS: lambda airflow, task: airflow.set_state(task.dag_id, task.run_id, task.task_id, "success"),
    CLEARED: lambda airflow, task: airflow.clear(task.dag_id, task.run_id),
}
Cell = tuple[str, str]
"""What was done, and to which sensor."""


def stops_job(cell: Cell) -> bool:
    """Tell whether the job is stopped in the end.

    Airflow ends the trigger of a cleared deferred task when it has scheduled the next try, which follows the job.
    """
    return cell[1] in STOPS and cell != (CLEARED, DEFERRED_STOPS)


class UserActs:
    """All acts at once: a job of its own for each sensor that stops it, one for all others together.

    :param dags: the DAG of each sensor.
    :param cells: what is done.
    :param more: cells whose jobs are wanted too.
    :param conn_id: connection through which the sensors follow the jobs.
    :param service: what that is a connection to.
    :param in_cluster: parameters of runs that follow a job as one in a cluster of a connection with several; every
        second run has them.
    """

    def __init__(
        self,
        system: System,
        dags: Mapping[str, str],
        cells: Collection[Cell],
        more: Iterable[Cell] = (),
        conn_id: str = "rayagent_default",
        service: str = AGENT,
        in_cluster: Mapping[str, str] | None = None,
    ) -> None:
        self.system = system
        self.acted = frozenset(cells)
        self.service = service
        self._parameters = itertools.cycle([{"conn_id": conn_id}, in_cluster or {"conn_id": conn_id}])
        self._in_cluster: set[str] = set()
        self.shared = system.submit_steady()
        self.jobs = {cell: system.submit_steady() if cell[1] in STOPS else self.shared for cell in (*cells, *more)}
        self.tasks = {cell: self.follow(self.jobs[cell], dags[cell[1]]) for cell in cells}
        for cell, task in self.tasks.items():
            task.wait_for("running" if cell[1] in (WORKER, WORKER_STOPS) else "deferred")
            task.wait_for_lines(1)
        # A next try that is scheduled when the end of the last one is noticed keeps the job: none is to be yet.
        with system.airflow.paused(dags.values()):
            for cell, task in self.tasks.items():
                ACTS[cell[0]](system.airflow, task)
            self.wait_for_stops(self.tasks)
        self.statuses: dict[Cell, str] = {}

    def follow(self, job_id: str, dag_id: str) -> Task:
        """Start a run of a DAG that follows a job through the connection."""
        parameters = next(self._parameters)
        task = self.system.follow(job_id, dag_id, **parameters)
        if "cluster" in parameters:
            self._in_cluster.add(task.run_id)
        return task

    def wait_for_stops(self, cells: Iterable[Cell]) -> None:
        """Wait until the jobs that should stop have stopped; what has not by then is told by the tests."""
        cells = [cell for cell in cells if stops_job(cell)]

        def has_stopped(cell: Cell) -> bool:
            is_stopped = self.system.agent.job(self.jobs[cell])["status"] == "STOPPED"
            return is_stopped or (cell not in self.acted and self.tasks[cell].was_failed_by_mistake())

        def stopped() -> bool | None:
            return all(map(has_stopped, cells)) or None

        with contextlib.suppress(WaitError):
            wait_until(stopped, "some job runs on")

    def finish(self) -> None:
        """Note what became of the jobs, let those that run end, and with them the tasks that were cleared."""
        self.statuses = {cell: self.system.agent.job(job_id)["status"] for cell, job_id in self.jobs.items()}
        self.system.release(*self.jobs.values())
        for task in self.tasks.values():
            task.wait()

    def row(self, cell: Cell) -> Row:
        """Compare the lines with those that the job had written when the task was ended."""
        job_id, task = self.jobs[cell], self.tasks[cell]
        read = task.forwarded() + task.deferred()
        service = f"{self.service}, with cluster=" if task.run_id in self._in_cluster else self.service
        return Row(*cell, self.statuses[cell], self.system.log_of(job_id)[: len(set(read))], read, service)
