"""The operators that start a job, when what runs them is killed: one job on Ray, and a green task."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id, numbered
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from tests.stack.holding import holding_proxy
from tests.stack.watch import wait_until
from tests.system.user_acts import ACTS, CLEARED

if TYPE_CHECKING:
    from tests.stack.triggerers import Triggerers
    from tests.system.support import System, Task


class Operator(NamedTuple):
    """How an operator starts its job.

    :param task_id: the task of its DAGs.
    :param request: end of the path of the request that starts the job.
    """

    worker: str
    deferred: str
    task_id: str
    request: str


PLUGIN = Operator("system_run_plugin", "system_run_plugin_deferred", "run_plugin", "/run/")
SUBMIT = Operator("system_submit", "system_submit_deferred", "submit", "/api/jobs/")
OPERATORS = {"run plugin": PLUGIN, "submit": SUBMIT}


class Killed:
    """A worker that is killed before it has the answer, and a triggerer that is killed while a task waits."""

    def __init__(self, system: System, triggerers: Triggerers, operator: Operator, conn_id: str) -> None:
        is_plugin = operator is PLUGIN
        with holding_proxy(system.agent.url if is_plugin else system.agent.ray_address, operator.request) as proxy:
            name = f"held_{operator.task_id}"
            if is_plugin:
                held = system.connect(name, host=proxy.url, extra={"read_timeout": MAX_TIMEOUT})
            else:
                held = system.connect_ray(name, host=proxy.url, read_timeout=MAX_TIMEOUT)
            self.worker, self.deferred = (
                system.start(dag_id, operator.task_id, conn_id=each, release=str(system.programs / dag_id))
                for dag_id, each in ((operator.worker, held), (operator.deferred, conn_id))
            )
            proxy.wait_for_answer()
            wait_until(lambda: jobs_of(system, self.worker) or None, "no job")
            system.agent.wait(only_job(system, self.worker), ("RUNNING",))
            system.airflow.components["scheduler"].send(signal.SIGKILL, self.worker.instance()["pid"])
            self.deferred.wait_for("deferred")
            self.deferred.wait_for_lines(3)
            holder = triggerers.holding(self.deferred.instance())
            triggerers.start()
            holder.kill()
            self.worker.wait_for_text("already exists", try_number=2)
            self.deferred.wait_for_text("Resuming at line ")
            system.release(operator.worker, operator.deferred)
            self.worker.wait_for("success", "failed")
        self.deferred.wait()


@pytest.fixture(scope="module", params=[pytest.param("run plugin", marks=pytest.mark.full), "submit"])
def killed(request: pytest.FixtureRequest, system: System, triggerers: Triggerers, plain_ray: str) -> Killed:
    operator = OPERATORS[request.param]
    return Killed(system, triggerers, operator, plain_ray if operator is SUBMIT else "rayagent_default")


def test_a_worker_killed_before_the_answer_leaves_a_job_that_the_next_try_finds(system: System, killed: Killed) -> None:
    task = killed.worker
    task.assert_has_ended("success", 2)
    assert "Started job" not in task.text(), "the first try does not know that its job was started"
    job_id = only_job(system, task)
    assert f"Job {job_id} of this task already exists (RUNNING); attaching." in task.text(try_number=2)
    assert_is_told(system, task, job_id, task.forwarded(try_number=2))


def test_a_triggerer_killed_while_the_task_waits_costs_neither_the_job_nor_the_task(
    system: System, killed: Killed
) -> None:
    task = killed.deferred
    task.assert_has_ended("success", 1)
    assert_is_told(system, task, only_job(system, task), task.deferred())


@pytest.mark.parametrize("killed", ["submit"], indirect=True)
def test_the_environment_of_a_submitted_job_is_shown_nowhere(system: System, killed: Killed) -> None:
    for task, try_number in ((killed.worker, 2), (killed.deferred, 1)):
        assert f"the key is *** and the task {SUBMIT.task_id}" in task.forwarded(try_number) + task.deferred(try_number)
        fields = task.instance()["rendered_fields"]
        assert "s3cret" not in str(fields)
        assert "***" in str(fields["runtime_env"])
        job = system.agent.job(only_job(system, task))
        assert job["runtime_env"]["env_vars"]["API_KEY"].endswith("-s3cret")
        assert job["metadata"]["airflow_dag_id"] == task.dag_id
        assert job["metadata"]["airflow_run_id"] == task.run_id


def test_a_task_that_is_cleared_while_its_job_is_pending_succeeds_with_another_job(
    system: System, plain_ray: str
) -> None:
    """Ray stops the first one when it starts."""
    cpus = cpus_of(system)["total"]
    wait_until(lambda: cpus_of(system)["available"] == cpus or None, "jobs of other tests still hold CPUs")
    blocking = system.submit("time.sleep(3600)", entrypoint_num_cpus=cpus)
    wait_until(lambda: cpus_of(system)["available"] == 0 or None, "the job holds no CPUs")
    release = system.programs / "needs_cpu"
    task = system.start("system_submit_needs_cpu", SUBMIT.task_id, conn_id=plain_ray, release=str(release))
    deferred = system.start("system_submit_needs_cpu_deferred", SUBMIT.task_id, conn_id=plain_ray, release=str(release))
    task.wait_for_text("is PENDING")
    first = only_job(system, task)
    # In a worker and deferred, the reason is told after a while.
    for each in (task, deferred):
        each.wait_for_text(f"waits: it requires 1 CPU; free: 0 of {cpus:g} CPUs")

    ACTS[CLEARED](system.airflow, task)
    task.wait_for_text("already exists (PENDING); attaching", try_number=2)
    system.agent.request("POST", f"jobs/{blocking}/stop/")
    system.agent.wait(first)
    # Not before: Ray reports a program that ends while it is stopped as FAILED (``run`` in
    # ``dashboard/modules/job/job_supervisor.py`` looks for a process that has ended).
    release.touch()
    task.wait()

    task.assert_has_ended("success", 2)
    deferred.wait()
    deferred.assert_has_ended("success", 1)
    assert {job_id: system.agent.job(job_id)["status"] for job_id in jobs_of(system, task)} == {
        first: "STOPPED",
        numbered(first, 2): "SUCCEEDED",
    }


def cpus_of(system: System) -> dict[str, float]:
    """Return how many CPUs the cluster has."""
    cpus: dict[str, float] = system.agent.request("GET", "resources/cluster/").json()["cpu"]
    return cpus


def jobs_of(system: System, task: Task) -> list[str]:
    """Return the ids of the jobs that Ray has had of this task in its run."""
    first = derived_id([task.dag_id, task.run_id, task.task_id, str(task.map_index)])
    ids = [str(job["submission_id"]) for job in system.agent.request("GET", "jobs/").json()]
    return [job_id for job_id in ids if job_id.startswith(first)]


def only_job(system: System, task: Task) -> str:
    """Return the id of the one job that Ray has had of this task."""
    (found,) = jobs_of(system, task)
    return found


def assert_is_told(system: System, task: Task, job_id: str, lines: list[str]) -> None:
    """The task names its job, has its result and every line."""
    details = task.xcom()
    assert task.xcom("job_id") == details["submission_id"] == job_id
    assert details["status"] == "SUCCEEDED"
    written = [line for line in system.log_of(job_id) if line.startswith("line ")]
    assert details["result"] == {"lines": len(written)}
    assert list(dict.fromkeys(line for line in lines if line.startswith("line "))) == written
