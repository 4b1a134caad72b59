"""A user marks and clears a task that has failed while its job runs.

The service could not be reached, or a user has marked the task, which does not stop its job.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.level import FULL
from tests.stack.holding import holding_proxy
from tests.system.test_starting import only_job
from tests.system.user_acts import ACTS, CLEARED, FAILED, SUCCESS

if TYPE_CHECKING:
    from tests.system.support import System

SENSOR, KEPT = "sensor", "submit, keeps its job"
VIA_AGENT, VIA_RAY = "failed_agent", "failed_ray"
NOTHING = "/none"
"""End of no request's path: the proxies withhold no response."""


class Kind(NamedTuple):
    """A task that follows a job.

    :param dag_id: with the suffixes of the variants.
    :param conn_id: connection through a proxy.
    """

    dag_id: str
    task_id: str
    conn_id: str


ALL_KINDS = {
    f"{name}, {place}": Kind(dag_id, task_id, conn_id)
    for name, prefix, task_id, conn_id in (
        (SENSOR, "system", "follow_job", VIA_AGENT),
        ("run plugin", "system_run_plugin", "run_plugin", VIA_AGENT),
        ("submit", "system_submit", "submit", VIA_RAY),
    )
    for place, dag_id in (("worker", f"{prefix}_unreachable"), ("deferred", f"{prefix}_deferred_unreachable"))
}
"""Tasks that stop their job if a user ends them while they run."""
ALL_KINDS[KEPT] = Kind("system_submit_kept", "submit", VIA_RAY)
IN_LANDING = (f"{SENSOR}, deferred", "submit, worker", KEPT)
"""A sensor and an operator, a worker and the triggerer, an agent and plain Ray."""
KINDS = {name: kind for name, kind in ALL_KINDS.items() if FULL or name in IN_LANDING}


class Failed:
    """A task of each kind fails, is marked successful, marked failed and cleared: each step for all kinds at once."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.followed = system.submit_steady()
        release = system.programs / f"failed-{uuid.uuid4().hex[:8]}"
        fields = {"job_id": self.followed, "release": str(release)}
        with holding_proxy(system.agent.url, NOTHING) as agent, holding_proxy(system.agent.ray_address, NOTHING) as ray:
            system.connect(VIA_AGENT, host=agent.url)
            system.connect_ray(VIA_RAY, host=ray.url)
            self.tasks = {
                name: system.start(kind.dag_id, kind.task_id, conn_id=kind.conn_id, **fields)
                for name, kind in KINDS.items()
            }
            for task in self.tasks.values():
                task.wait_for_lines(3)
            ACTS[FAILED](system.airflow, self.tasks[KEPT])
        for task in self.tasks.values():
            task.wait_for("failed")
        self.texts = {name: task.text() for name, task in self.tasks.items()}
        # The service is back.
        for conn_id, host in ((VIA_AGENT, system.agent.url), (VIA_RAY, system.agent.ray_address)):
            fields = {"connection_id": conn_id, "conn_type": "rayagent", "host": host}
            system.api("PATCH", f"connections/{conn_id}?update_mask=host", **fields)
        self.states = {
            name: [self.state(name), *(self.state(name, act) for act in (SUCCESS, FAILED))] for name in KINDS
        }
        for task in self.tasks.values():
            ACTS[CLEARED](system.airflow, task)
        for name, task in self.tasks.items():
            task.wait_for_text("line 1" if name.startswith(SENSOR) else "attaching", try_number=2)
        release.touch()
        system.release(self.followed)
        for task in self.tasks.values():
            task.wait()

    def job_id(self, name: str) -> str:
        """Return the id of the only job of a task."""
        return self.followed if name.startswith(SENSOR) else only_job(self.system, self.tasks[name])

    def state(self, name: str, act: str = "") -> tuple[str, str]:
        """Do something to a task; return its state, and its job's status."""
        if act:
            ACTS[act](self.system.airflow, self.tasks[name])
        return self.tasks[name].instance()["state"], self.system.agent.job(self.job_id(name))["status"]


@pytest.fixture(scope="module")
def failed(system: System) -> Failed:
    return Failed(system)


@pytest.mark.parametrize("name", KINDS)
def test_the_job_of_a_failed_task_runs_on_also_if_the_task_is_marked(failed: Failed, name: str) -> None:
    assert ("RA-201" in failed.texts[name]) == (name != KEPT)
    assert failed.states[name] == [("failed", "RUNNING"), ("success", "RUNNING"), ("failed", "RUNNING")]


@pytest.mark.parametrize("name", KINDS)
def test_a_failed_task_that_is_cleared_follows_the_job_that_runs(failed: Failed, name: str) -> None:
    task, job_id = failed.tasks[name], failed.job_id(name)
    failed.system.assert_second_try_succeeds(task, job_id)
    assert failed.system.agent.job(job_id)["status"] == "SUCCEEDED"
