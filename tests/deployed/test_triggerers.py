"""A triggerer ends or is killed, its log files are gone with its disk, and another one goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.deployed.support import LINES_A_SECOND, without_bars
from tests.level import FULL
from tests.stack.job_logs import MESSAGE_KEY, last_message
from tests.stack.watch import wait_until
from tests.system.kill_table import AGENT, PLAIN_RAY, Row, record
from tests.system.support import COMPLETED

if TYPE_CHECKING:
    from tests.deployed.support import Deployed, DeployedTask

PLAIN, RESULT, MAX_LINES, LONG = "all lines", "read_result", "max_lines", "long log"
RESULT_RAY, LONG_RAY = "read_result over Ray", "long log over Ray"
OVER_RAY = (RESULT_RAY, LONG_RAY)
RESULTS, LONGS = (RESULT, RESULT_RAY), (LONG, LONG_RAY)
DAGS = {
    RESULT_RAY: "deployed_deferred_result",
    LONG_RAY: "deployed_deferred",
    PLAIN: "deployed_deferred",
    RESULT: "deployed_deferred_result",
    MAX_LINES: "deployed_deferred_max_lines",
    LONG: "deployed_deferred",
}
SHOWN = 30
"""Lines of the log of the sensor with max_lines."""
BURST = 20_000
TERM = "triggerer: TERM, then its successor"
KILL = "triggerer: KILL, another one is there"
VOLUME = "triggerer: TERM, restarted on its disk"
THREE = "all three, one after the other"
MARKED = "triggerer: KILL, then user: marks failed"
Cell = tuple[str, str]
ALL_CELLS: list[Cell] = [
    *((TERM, way) for way in (PLAIN, RESULT, MAX_LINES, LONG, *OVER_RAY)),
    *((KILL, way) for way in (PLAIN, RESULT, MAX_LINES, LONG, *OVER_RAY)),
    *((VOLUME, way) for way in (PLAIN, LONG)),
    *((THREE, way) for way in (PLAIN, RESULT, RESULT_RAY)),
    (MARKED, PLAIN),
]
IN_LANDING = [(TERM, MAX_LINES), (KILL, LONG), (VOLUME, PLAIN), (THREE, RESULT_RAY), (MARKED, PLAIN)]
"""Each end of a triggerer, and each way to read a log once."""
CELLS = ALL_CELLS if FULL else IN_LANDING
SOME_LINES = 3 * LINES_A_SECOND


class TakeOvers:
    """One end of a triggerer after the other; some tasks live through all of them."""

    def __init__(self, deployed: Deployed, plain_ray: str) -> None:
        self.deployed = deployed
        self.conn_ids = dict.fromkeys(OVER_RAY, plain_ray)
        self.jobs: dict[Cell, str] = {}
        self.tasks: dict[Cell, DeployedTask] = {}
        self._begin(TERM, THREE)
        [first] = deployed.deployment.triggerers
        first.terminate()
        second = deployed.deployment.start_triggerer()
        self._wait_for_more_lines(TERM, THREE)
        self._release(TERM)

        self._begin(KILL, MARKED)
        third = deployed.deployment.start_triggerer()
        second.kill()
        self._wait_for_more_lines(KILL, MARKED, THREE)
        marked = self.tasks[MARKED, PLAIN]
        deployed.airflow.set_state(marked.dag_id, marked.run_id, marked.task_id, "failed")
        # A triggerer that is stopped before ends the trigger without its on_kill.
        wait_until(lambda: COMPLETED in marked.text() or None, f"{marked.dag_id}: the trigger is not completed")
        self._release(KILL)

        self._begin(VOLUME)
        third.terminate(all_processes=True, keep_disk=True)
        deployed.deployment.start_triggerer(disk=third.disk)
        self._wait_for_more_lines(VOLUME, THREE)
        self._release(VOLUME, THREE, MARKED)
        for task in self.tasks.values():
            task.wait()
        self.rows = {cell: record(self._row(*cell)) for cell in CELLS}

    def _begin(self, *whats: str) -> None:
        """Start the jobs and their tasks, and wait until triggers have forwarded a part of every log."""
        new = [cell for cell in CELLS if cell[0] in whats]
        for what in whats:
            job_id = self.deployed.submit_stream(bars=what == THREE)
            self.jobs |= {cell: job_id for cell in new if cell[0] == what}
            if any((what, way) in new for way in LONGS):
                long_job = self.deployed.submit_stream(burst=BURST)
                self.jobs |= {cell: long_job for cell in new if cell[0] == what and cell[1] in LONGS}
        self.tasks |= {cell: self._follow(cell) for cell in new}
        for cell in new:
            count = BURST if cell[1] in LONGS else {MAX_LINES: SHOWN}.get(cell[1], SOME_LINES)
            self.tasks[cell].wait_for_position(count)

    def _follow(self, cell: Cell) -> DeployedTask:
        conn_id = self.conn_ids.get(cell[1], "rayagent_default")
        return self.deployed.follow(self.jobs[cell], DAGS[cell[1]], conn_id=conn_id)

    def _wait_for_more_lines(self, *whats: str) -> None:
        """Wait until the next trigger has forwarded lines too; with max_lines there may be none to forward."""
        before = {
            cell: task.position() for cell, task in self.tasks.items() if cell[0] in whats and cell[1] != MAX_LINES
        }
        for cell, count in before.items():
            self.tasks[cell].wait_for_position(count + SOME_LINES)

    def _release(self, *whats: str) -> None:
        self.deployed.release(*{job_id for cell, job_id in self.jobs.items() if cell[0] in whats})

    def _row(self, what: str, way: str) -> Row:
        job_id = self.jobs[what, way]
        task = self.tasks[what, way]
        written = without_bars(self.deployed.log_of(job_id))
        messages = {} if what == MARKED else {"printed": last_message(written), "xcom": task.xcom(MESSAGE_KEY)}
        read = without_bars(task.lines())
        if way == MAX_LINES:
            written = written[:SHOWN]
        if what == MARKED:
            # What the job wrote after the user ended the task is not in the task log.
            written = written[: written.index(read[-1]) + 1]
        service = PLAIN_RAY if way in OVER_RAY else AGENT
        return Row(what, way, self.deployed.agent.job(job_id)["status"], written, read, service, **messages)


@pytest.fixture(scope="module")
def take_overs(deployed: Deployed, plain_ray: str) -> TakeOvers:
    return TakeOvers(deployed, plain_ray)


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_job_runs_on_and_the_task_ends_with_it_in_one_try(take_overs: TakeOvers, cell: Cell) -> None:
    assert take_overs.rows[cell].job == "SUCCEEDED"
    task = take_overs.tasks[cell]
    task.assert_has_ended("failed" if cell[0] == MARKED else "success", 1)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[1] in RESULTS], ids=" / ".join)
def test_the_result_is_the_jobs(take_overs: TakeOvers, cell: Cell) -> None:
    lines = [line for line in take_overs.rows[cell].written if line.startswith("line ")]
    assert take_overs.tasks[cell].xcom()["result"] == {"lines": len(lines)}


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[0] != MARKED], ids=" / ".join)
def test_the_xcom_is_what_the_last_message_states(take_overs: TakeOvers, cell: Cell) -> None:
    row = take_overs.rows[cell]
    assert row.xcom == row.printed is not None


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_no_line_is_missing_or_where_nobody_could_add_them_the_log_says_which(
    take_overs: TakeOvers, cell: Cell
) -> None:
    missing = take_overs.rows[cell].missing
    if missing and cell[0] == MARKED:
        # A long gap is left to the worker that ends the task, and here a user did that.
        assert f"is incomplete: lines 1 to {len(missing)} were in" in take_overs.tasks[cell].text()
    else:
        assert missing == []


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_lines_are_in_order_but_for_those_that_the_worker_adds(take_overs: TakeOvers, cell: Cell) -> None:
    """It adds those of a long gap at the end, under a sentence that says which; a slow machine makes a gap long."""
    added = "Forwarding lines " in take_overs.tasks[cell].text()
    # With max_lines, the first trigger has written all that is shown, and nothing is in front of what the worker adds.
    in_order = not added or cell[1] == MAX_LINES
    assert take_overs.rows[cell].is_in_order is in_order or cell[0] == MARKED
    assert added or cell[1] not in LONGS
