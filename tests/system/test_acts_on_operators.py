"""A user marks or clears a task that starts its job: what happens to the job, and what the next try does."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.stack.watch import WaitError, wait_until
from tests.system.test_starting import OPERATORS, SUBMIT
from tests.system.user_acts import ACTS, CLEARED, FAILED, SUCCESS

if TYPE_CHECKING:
    from tests.system.support import System
    from tests.system.test_starting import Operator

WORKER, DEFERRED = "worker", "deferred"
VARIANTS = [(name, place) for name in OPERATORS for place in (WORKER, DEFERRED)]
IN_LANDING = [("run plugin", DEFERRED), ("submit", WORKER)]
"""Each operator and each place once: what ends a job does not depend on what started it."""
RUNS_ON = [(DEFERRED, CLEARED)]
"""Airflow ends the trigger of a cleared task when it has scheduled the next try, which follows the job."""


class Acted:
    """A task for each act, all acts at once, and then the task that was marked failed once more."""

    def __init__(self, system: System, operator: Operator, place: str, conn_id: str) -> None:
        self.system, self.place = system, place
        dag_id = operator.worker if place == WORKER else operator.deferred
        release = system.programs / f"acts-{uuid.uuid4().hex[:8]}"
        # Three tasks: the local agent runs as many plugins at once, and queues others.
        self.tasks = {
            act: system.start(dag_id, operator.task_id, conn_id=conn_id, release=str(release)) for act in ACTS
        }
        for task in self.tasks.values():
            task.wait_for("running" if place == WORKER else "deferred")
            task.wait_for_lines(3)
        self.jobs = {act: str(task.xcom("job_id")) for act, task in self.tasks.items()}
        # As for sensors: no next try before all acts have had their effect.
        with system.airflow.paused([dag_id]):
            for act, task in self.tasks.items():
                ACTS[act](system.airflow, task)
            with contextlib.suppress(WaitError):
                wait_until(lambda: all(map(self.is_as_expected, ACTS)) or None, "some job runs on")
            self.statuses = {act: self.status(act) for act in ACTS}
        self.cleared = self.tasks[CLEARED]
        self.cleared.wait_for_text("attaching" if (place, CLEARED) in RUNS_ON else "starting a new job", try_number=2)
        release.touch()
        self.cleared.wait()

    def status(self, act: str) -> str:
        return str(self.system.agent.job(self.jobs[act])["status"])

    def is_as_expected(self, act: str) -> bool:
        return self.status(act) == ("RUNNING" if (self.place, act) in RUNS_ON else "STOPPED")


@pytest.fixture(
    scope="module",
    params=[each if each in IN_LANDING else pytest.param(each, marks=pytest.mark.full) for each in VARIANTS],
)
def acted(request: pytest.FixtureRequest, system: System, plain_ray: str) -> Acted:
    name, place = request.param
    return Acted(system, OPERATORS[name], place, plain_ray if OPERATORS[name] is SUBMIT else "rayagent_default")


@pytest.mark.parametrize("act", ACTS)
def test_the_job_is_stopped_unless_a_deferred_task_is_cleared(acted: Acted, act: str) -> None:
    expected = "RUNNING" if (acted.place, act) in RUNS_ON else "STOPPED"
    assert acted.statuses[act] == expected, acted.tasks[act].text()


def test_a_cleared_task_goes_on_with_its_job_or_with_a_new_one(acted: Acted) -> None:
    job_id = acted.jobs[CLEARED]
    runs_on = (acted.place, CLEARED) in RUNS_ON
    assert (acted.cleared.xcom("job_id") == job_id) == runs_on
    acted.system.assert_second_try_succeeds(acted.cleared, str(acted.cleared.xcom("job_id")))


def test_a_task_that_has_failed_keeps_its_job_when_marked_and_starts_a_new_one_when_cleared(acted: Acted) -> None:
    airflow, task, job_id = acted.system.airflow, acted.tasks[FAILED], acted.jobs[FAILED]
    assert task.instance()["state"] == "failed"
    ACTS[SUCCESS](airflow, task)
    assert task.instance()["state"] == "success"
    assert (task.xcom("job_id"), acted.status(FAILED)) == (job_id, "STOPPED")

    ACTS[FAILED](airflow, task)
    ACTS[CLEARED](airflow, task)
    task.wait_for_text(f"Job {job_id} of this task ended as STOPPED; starting a new job.", try_number=2)
    task.wait()
    assert task.xcom("job_id") != job_id
    acted.system.assert_second_try_succeeds(task, str(task.xcom("job_id")))
