"""A triggerer that is ended, killed or frozen: the next one goes on, and the job is left alone."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.position.trigger_position import POSITION_KEY
from airflow_provider_rayagent.task_instance.supervisor_channel import STALL_SECONDS
from tests.level import FULL
from tests.stack.job_logs import MESSAGE_KEY, last_message
from tests.stack.triggerers import Triggerer
from tests.stack.watch import wait_until
from tests.system.kill_table import Row, record
from tests.system.support import COMPLETED, LINES_A_SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack.triggerers import Triggerers
    from tests.system.support import System, Task

TERM, RUNNER, FROZEN = "triggerer: TERM", "triggerer: KILL of its runner", "triggerer: STOP, taken over, CONT"
KILLS: dict[str, Callable[[Triggerer], None]] = {
    TERM: Triggerer.terminate,
    RUNNER: Triggerer.kill_runner,
    FROZEN: Triggerer.freeze,
}
"""Those of a whole triggerer are in the suite `deployed`."""
NAMES = [name for name in KILLS if FULL or name != RUNNER]
"""In the landing check those after which the triggerer can still act on the job."""
SENSOR, DAG_ID = "deferred, stops the job", "system_deferred_stops"
RESUMING = "Resuming at line "


class HandOvers:
    """One kill after the other, each of the triggerer that runs the sensor, with another one there to take over."""

    def __init__(self, system: System, triggerers: Triggerers) -> None:
        self._system = system
        self._triggerers = triggerers
        self._jobs: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        self.rows: dict[str, Row] = {}
        self.saved: dict[str, int] = {}
        """How many lines the position covered that was saved when the triggerer was killed, at least."""
        self._follow(NAMES[0])
        for name, following in zip(NAMES, [*NAMES[1:], None], strict=True):
            self._hand_over(name, following)

    def _follow(self, name: str) -> None:
        self._jobs[name] = self._system.submit_steady()
        self.tasks[name] = self._system.follow(self._jobs[name], DAG_ID)

    def _hand_over(self, name: str, following: str | None) -> None:
        job_id, task = self._jobs[name], self.tasks[name]
        task.wait_for("deferred")
        task.wait_for_lines(3 * LINES_A_SECOND)
        self.saved[name] = self._wait_for_position(task)
        holder = self._triggerers.holding(task.instance())
        self._triggerers.start()
        killed = time.monotonic()
        KILLS[name](holder)
        if following:
            self._follow(following)
        task.wait_for_text(RESUMING)
        task.wait_for_lines(len(task.deferred()) + LINES_A_SECOND)
        if name == FROZEN:
            # A shorter stall does not count as one.
            time.sleep(max(STALL_SECONDS + 1 - (time.monotonic() - killed), 0))
            holder.thaw()
            task.wait_for_text("invoking on_kill")
            task.wait_for_text(COMPLETED)
        status = self._system.agent.job(job_id)["status"]
        self._system.release(job_id)
        task.wait()  # So that the next kill does not end its trigger once more.
        written = self._system.log_of(job_id)
        messages = {"printed": last_message(written), "xcom": task.xcom(MESSAGE_KEY)}
        self.rows[name] = record(Row(name, SENSOR, status, written, task.deferred(), **messages))

    def _wait_for_position(self, task: Task) -> int:
        """Wait until a second's lines are covered by the saved position; return how many are."""

        def look() -> int | None:
            cursor = task.xcom(POSITION_KEY)["position"] or {"lines": 0}
            covered: int = cursor["lines"] + cursor.get("again", 0)
            return covered if covered >= LINES_A_SECOND else None

        return wait_until(look, f"the position of {task.dag_id} is not saved")


@pytest.fixture(scope="module")
def hand_overs(system: System, triggerers: Triggerers) -> HandOvers:
    return HandOvers(system, triggerers)


@pytest.mark.parametrize("name", NAMES)
def test_the_task_goes_on_at_the_next_triggerer_and_its_job_runs_on(hand_overs: HandOvers, name: str) -> None:
    assert hand_overs.rows[name].job == "RUNNING"
    hand_overs.tasks[name].assert_has_ended("success", 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_xcom_is_what_the_last_message_states(hand_overs: HandOvers, name: str) -> None:
    row = hand_overs.rows[name]
    assert row.xcom == row.printed is not None


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_missing_and_none_is_repeated_that_the_saved_position_covers(
    hand_overs: HandOvers, name: str
) -> None:
    """The position is saved every second; how many lines that is depends on the machine, and is in the table."""
    row = hand_overs.rows[name]
    assert row.missing == []
    assert row.is_in_order
    (went_on_at,) = map(int, re.findall(rf"{RESUMING}(\d+)", hand_overs.tasks[name].text()))
    assert went_on_at > hand_overs.saved[name]
    assert not set(row.repeated) & set(row.written[: went_on_at - 1])
