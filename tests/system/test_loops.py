"""Loops (Airflow 3.4): each iteration has a job, a log and a result of its own, and is ended by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from airflow import sdk

from airflow_provider_rayagent.render.records import JOB_LOGGER
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack.airflow import Json
    from tests.system.support import System

pytestmark = [
    pytest.mark.each_airflow,
    pytest.mark.skipif(not hasattr(sdk, "LoopDecision"), reason="no loops before Airflow 3.4"),
    pytest.mark.timeout(1800),
]

RUNS = {"in_worker": "running", "deferred": "deferred"}
"""The state of a task that follows its job."""


@dataclass(frozen=True)
class Looped:
    """One task instance in a loop.

    :param place: the loop's name.
    :param instance: the task instance as the API gave it.
    """

    system: System
    place: str
    instance: Json

    @property
    def iteration(self) -> int:
        return int(self.instance["loop_iteration"]["iteration"])

    @property
    def path(self) -> str:
        return "dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}".format(**self.instance)

    @property
    def region(self) -> Json:
        return {name: self.instance[name] for name in ("region_id", "region_index")}

    def job_id(self) -> str:
        return str(self.xcom("job_id"))

    def xcom(self, key: str = "return_value") -> Any:
        """Return what the task returned, or pushed."""
        query = urlencode({**self.region, "deserialize": "false"})
        return self.system.api("GET", f"{self.path}/xcomEntries/{key}?{query}")["value"]

    def records(self) -> list[Json]:
        """Return the records of the log of this try."""
        query = urlencode({**self.region, "full_content": "true"})
        found: list[Json] = self.system.api("GET", f"{self.path}/logs/{self.instance['try_number']}?{query}")["content"]
        return found

    def lines(self) -> list[str]:
        """Return the job's lines in the task log."""
        ours = [record["event"] for record in self.records() if record.get("logger") == JOB_LOGGER]
        return "\n".join(ours).split("\n")

    def mark_failed(self) -> None:
        """Mark the task instance, as the button of the UI does."""
        self.system.api("PATCH", self.path, new_state="failed", **self.region)


def looped(system: System, dag_id: str, run_id: str) -> list[Looped]:
    """Return the task instances of a run that run a plugin."""
    return [
        Looped(system, instance["task_id"].split(".")[0], instance)
        for instance in system.airflow.task_instances(dag_id, run_id)
        if instance["task_id"].endswith(".run_plugin")
    ]


@pytest.fixture(scope="module")
def done(system: System) -> list[Looped]:
    """The task instances of a run that is over."""
    run_id = system.airflow.trigger("system_loop")
    state = system.airflow.wait_for_run("system_loop", run_id)
    found = looped(system, "system_loop", run_id)
    assert state == "success", [(each.place, each.iteration, each.records()) for each in found]
    return found


def test_each_iteration_has_a_job_a_log_and_a_result_of_its_own(done: list[Looped]) -> None:
    assert len(done) == 2 + 2 + 2 * 2
    for each in done:
        count = each.iteration + (3 if each.instance["map_index"] == 1 else 1)
        details = each.xcom()
        assert details["result"] == {"epochs": count, "loss": 0.5**count}
        assert details["submission_id"] == each.job_id()
        lines = each.lines()
        assert f"train: {count} epochs, as job {each.job_id()}" in lines
        assert [line for line in lines if ": loss " in line] == [
            f"epoch {epoch}/{count}: loss {0.5**epoch:.4f}" for epoch in range(1, count + 1)
        ]
    assert len({each.job_id() for each in done}) == len(done)


@pytest.mark.parametrize("place", RUNS)
def test_an_iteration_is_ended_by_itself_and_leaves_no_job(place: str, system: System) -> None:
    """The jobs of two iterations run at the same time."""
    run = Overlapping(system, f"system_loop_overlap_{place}")
    first, second = run.two_iterations("two iterations run")
    jobs = [each.job_id() for each in (first, second)]

    first.mark_failed()
    run.until(lambda: run.statuses()[jobs[0]] == "STOPPED", "the job of the marked task is stopped")
    assert run.statuses() == {jobs[0]: "STOPPED", jobs[1]: "RUNNING"}

    # This clears the gate of the first iteration, so that Airflow drops the second one and makes another.
    system.airflow.clear(run.dag_id, run.run_id)
    run.until(lambda: run.statuses()[jobs[1]] == "STOPPED", "the job of the dropped iteration is stopped")
    again, another = run.two_iterations("two iterations run again")
    assert again.job_id() == f"{jobs[0]}-2"
    assert another.job_id() not in jobs

    system.api("PATCH", f"dags/{run.dag_id}/dagRuns/{run.run_id}", state="failed")
    run.until(lambda: set(run.statuses().values()) == {"STOPPED"}, "no job is left")
    assert set(run.statuses()) == {*jobs, again.job_id(), another.job_id()}


class Overlapping:
    """One run of a DAG whose loop begins its second iteration while the job of the first one runs."""

    def __init__(self, system: System, dag_id: str) -> None:
        self.system = system
        self.dag_id = dag_id
        self.run_id = system.airflow.trigger(dag_id)

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        wait_until(lambda: look() or None, f"not: {what}")

    def two_iterations(self, what: str) -> list[Looped]:
        """Wait until the jobs of two iterations are followed; return the two tasks."""

        def found() -> list[Looped] | None:
            instances = looped(self.system, self.dag_id, self.run_id)
            return instances if len(instances) == 2 and all(map(is_followed, instances)) else None

        return sorted(wait_until(found, f"not: {what}"), key=lambda each: each.iteration)

    def statuses(self) -> dict[str, str]:
        """Return the status of every job that the DAG's tasks have started, by its id."""
        found = self.system.agent.request("GET", "jobs/").json()
        statuses = {str(job["submission_id"]): str(job["status"]) for job in found}
        return {job_id: status for job_id, status in statuses.items() if job_id.startswith(f"{self.dag_id}-")}


def is_followed(each: Looped) -> bool:
    return each.instance["state"] == RUNS[each.place] and any(": loss " in line for line in each.lines())
