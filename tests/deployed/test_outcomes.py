"""How jobs end, in a worker, deferred and rescheduled, and an agent that is restarted meanwhile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.local.ports import free_ports
from tests.level import FULL
from tests.stack.agent import local_agent
from tests.system.kill_table import AGENT, PLAIN_RAY, Row, record

if TYPE_CHECKING:
    from tests.deployed.support import Deployed, DeployedTask

SUCCEEDED, FAILED, STOPPED, RESTARTED = "SUCCEEDED", "FAILED", "STOPPED", "agent restarted, SUCCEEDED"
WORKER, DEFERRED, RESCHEDULE = "worker", "deferred", "reschedule"
WORKER_RAY, DEFERRED_RAY = "worker over Ray", "deferred over Ray"
OVER_RAY = (WORKER_RAY, DEFERRED_RAY)
DAGS = {
    WORKER: "deployed_worker",
    DEFERRED: "deployed_deferred",
    RESCHEDULE: "deployed_reschedule",
    WORKER_RAY: "deployed_worker",
    DEFERRED_RAY: "deployed_deferred",
}
Cell = tuple[str, str]
ENDS = (SUCCEEDED, FAILED, STOPPED, RESTARTED)
ALL_CELLS = [(end, way) for end in ENDS for way in DAGS if end != RESTARTED or way in (WORKER, DEFERRED)]
IN_LANDING = [
    (SUCCEEDED, WORKER_RAY),
    (SUCCEEDED, RESCHEDULE),
    (FAILED, DEFERRED),
    (STOPPED, DEFERRED_RAY),
    (RESTARTED, WORKER),
    (RESTARTED, DEFERRED),
]
"""Each end, and each way at least once."""
CELLS: list[Cell] = ALL_CELLS if FULL else IN_LANDING
FAILING = """
for number in range(400):
    print("line", number, flush=True)
    time.sleep(0.02)
raise ValueError("the job has failed")
"""
SOME_LINES = 40


class Ended:
    """Every end in every way, all at once: a job for each end."""

    def __init__(self, deployed: Deployed, plain_ray: str) -> None:
        self.deployed = deployed
        self.jobs = {
            SUCCEEDED: deployed.submit_stream(),
            FAILED: deployed.submit(FAILING),
            STOPPED: deployed.submit_stream(),
            RESTARTED: deployed.submit_stream(),
        }
        agent, port = deployed.agent, free_ports(1)[0]
        ray = ("--address", agent.ray_address, "--ray-token-file", str(agent.ray_token_file))
        options = (*ray, "--port", str(port), "--token", agent.token)
        with contextlib.ExitStack() as second:
            second.enter_context(local_agent(*options))
            restarted = deployed.connect("rayagent_restarted", host=f"http://127.0.0.1:{port}")

            def conn_id(end: str, way: str) -> str:
                return plain_ray if way in OVER_RAY else restarted if end == RESTARTED else "rayagent_default"

            self.tasks = {
                (end, way): deployed.follow(self.jobs[end], DAGS[way], conn_id=conn_id(end, way)) for end, way in CELLS
            }
            for cell, task in self.tasks.items():
                self._wait_for_lines(cell, task)
            second.close()
            second.enter_context(local_agent(*options))
            agent.request("POST", f"jobs/{self.jobs[STOPPED]}/stop/").raise_for_status()
            deployed.release(*self.jobs.values())
            for task in self.tasks.values():
                task.wait()
        self.rows = {cell: record(self._row(*cell)) for cell in CELLS}

    def _wait_for_lines(self, cell: Cell, task: DeployedTask) -> None:
        """Wait until the task has written lines, where it writes them."""
        if cell[1] == RESCHEDULE or cell[0] == FAILED:
            return
        deployment = self.deployed.deployment
        machine = deployment.triggerers[-1] if cell[1] in (DEFERRED, DEFERRED_RAY) else deployment.workers[0]
        task.wait_for_lines_on(machine, SOME_LINES)

    def _row(self, end: str, way: str) -> Row:
        job_id = self.jobs[end]
        status = self.deployed.agent.job(job_id)["status"]
        service = PLAIN_RAY if way in OVER_RAY else AGENT
        return Row(end, way, status, self.deployed.log_of(job_id), self.tasks[end, way].lines(), service)


@pytest.fixture(scope="module")
def ended(deployed: Deployed, plain_ray: str) -> Ended:
    return Ended(deployed, plain_ray)


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_task_ends_as_its_job_does(ended: Ended, cell: Cell) -> None:
    end, task = cell[0], ended.tasks[cell]
    status = {RESTARTED: SUCCEEDED}.get(end, end)
    assert ended.rows[cell].job == status
    expected = "success" if status == SUCCEEDED else "failed"
    task.assert_has_ended(expected, 1)
    assert task.xcom()["status"] == status
    if expected == "failed":
        assert f"Job {ended.jobs[end]} ended as {status}" in task.text()


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_every_line_is_in_the_finished_log_once_and_in_order(ended: Ended, cell: Cell) -> None:
    row = ended.rows[cell]
    assert row.missing == []
    assert list(row.read) == list(row.written)
