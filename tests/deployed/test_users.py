"""A user marks a task failed or clears it, over plain Ray: its job runs on, or is stopped where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.level import FULL
from tests.system.kill_table import PLAIN_RAY, record
from tests.system.user_acts import (
    CLEARED,
    DEFERRED,
    DEFERRED_STOPS,
    FAILED,
    SENSORS,
    STOPS,
    WORKER,
    WORKER_STOPS,
    Cell,
    UserActs,
    stops_job,
)

if TYPE_CHECKING:
    from tests.deployed.support import Deployed

DAGS = {
    WORKER: "deployed_worker",
    WORKER_STOPS: "deployed_worker_stops",
    DEFERRED: "deployed_deferred",
    DEFERRED_STOPS: "deployed_deferred_stops",
}
ENDED = SENSORS if FULL else STOPS
"""In the landing check those that stop their job; `system` ends the others, too."""
CELLS: list[Cell] = [(act, sensor) for act in (FAILED, CLEARED) for sensor in ENDED]


@pytest.fixture(scope="module")
def acts(deployed: Deployed, plain_ray: str) -> UserActs:
    done = UserActs(deployed, DAGS, CELLS, conn_id=plain_ray, service=PLAIN_RAY)
    done.finish()
    return done


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_job_is_stopped_where_that_is_asked_for_and_there_only(acts: UserActs, cell: Cell) -> None:
    assert acts.statuses[cell] == ("STOPPED" if stops_job(cell) else "RUNNING"), acts.tasks[cell].text()


@pytest.mark.parametrize("cell", CELLS, ids=" / ".join)
def test_the_lines_up_to_the_act_are_there_once_and_in_order(acts: UserActs, cell: Cell) -> None:
    row = record(acts.row(cell))
    assert row.read
    assert row.read == row.written


@pytest.mark.parametrize("sensor", ENDED)
def test_a_cleared_task_follows_its_job_from_the_first_line(acts: UserActs, sensor: str) -> None:
    job_id, task = acts.jobs[CLEARED, sensor], acts.tasks[CLEARED, sensor]
    task.assert_has_ended("failed" if stops_job((CLEARED, sensor)) else "success", 2)
    assert task.forwarded(try_number=2) + task.deferred(try_number=2) == acts.system.log_of(job_id)
