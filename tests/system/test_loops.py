"""Loops (Airflow 3.4): each iteration has a job, a log and a result of its own, and is ended by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from airflow import sdk

from airflow_provider_rayagent.hooks.common import JOB_LOGGER
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack.airflow import Json
    from tests.system.support import System

pytestmark = [
    pytest.mark.prerelease,
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

    def job(self) -> Json:
        """Return the task's job as the agent knows it."""
        job: Json = self.system.agent.request("GET", f"jobs/{self.job_id()}/").json()
        return job

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


def test_an_iteration_is_ended_by_itself_and_leaves_no_job(system: System) -> None:
    """The jobs of two iterations run at the same time, in a worker and deferred."""
    run = Run(system, system.airflow.trigger("system_loop_overlap"))
    before = run.until(lambda found: len(found) == 4 and all(map(is_followed, found)), "two iterations run")
    first, second = ([each for each in before if each.iteration == number] for number in (0, 1))

    for each in first:
        each.mark_failed()
    run.until(lambda _: all(map(is_stopped, first)), "the jobs of the marked tasks are stopped")
    assert [each.job()["status"] for each in second] == ["RUNNING", "RUNNING"]

    jobs = [each.job_id() for each in second]
    system.airflow.clear("system_loop_overlap", run.run_id)
    run.until(lambda _: run.statuses(jobs) == ["STOPPED"] * 2, "the jobs of the iteration that is gone are stopped")
    again = run.until(lambda found: len(found) == 4 and all(map(is_followed, found)), "two iterations run again")
    assert {each.job_id() for each in again if each.iteration == 0} == {f"{each.job_id()}-2" for each in first}
    assert not {each.job_id() for each in again} & set(jobs)

    system.api("PATCH", f"dags/system_loop_overlap/dagRuns/{run.run_id}", state="failed")
    run.until(lambda _: set(run.statuses(run.jobs())) == {"STOPPED"}, "no job is left")
    assert len(run.jobs()) == 8


@dataclass(frozen=True)
class Run:
    """One run of the DAG with the overlapping loops."""

    system: System
    run_id: str

    def until(self, look: Callable[[list[Looped]], bool], what: str) -> list[Looped]:
        """Wait until something is so; return the task instances that run a plugin then."""

        def found() -> list[Looped] | None:
            instances = looped(self.system, "system_loop_overlap", self.run_id)
            return instances if look(instances) else None

        return wait_until(found, f"not: {what}")

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that the DAG's tasks have started."""
        ids = [str(job["submission_id"]) for job in self.system.agent.request("GET", "jobs/").json()]
        return [job_id for job_id in ids if job_id.startswith("system_loop_overlap-")]

    def statuses(self, job_ids: list[str]) -> list[str]:
        return [str(self.system.agent.request("GET", f"jobs/{job_id}/").json()["status"]) for job_id in job_ids]


def is_followed(each: Looped) -> bool:
    return each.instance["state"] == RUNS[each.place] and any(": loss " in line for line in each.lines())


def is_stopped(each: Looped) -> bool:
    return bool(each.job()["status"] == "STOPPED")
