"""The same question, asked by the agent's client and by our hook, has the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import LINES, SLEEPS, same_answer, submit
from tests.stack.job_logs import without_lines_of_ray
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from tests.contract.client import Client
    from tests.stack.agent import LocalAgent

Jobs = dict[str, dict[str, Any]]


def test_the_health(client: Client, hook: RayAgentHook) -> None:
    assert same_answer(client, hook, "health_check")["status"] == "ok"


def test_the_list_of_jobs(client: Client, hook: RayAgentHook, jobs: Jobs) -> None:
    found = same_answer(client, hook, "list_jobs")
    assert {job["submission_id"] for job in jobs.values()} <= {job["submission_id"] for job in found}


@pytest.mark.parametrize(("name", "status"), [("prints", "SUCCEEDED"), ("fails", "FAILED"), ("tasks", "SUCCEEDED")])
def test_the_details_of_a_job(client: Client, hook: RayAgentHook, jobs: Jobs, name: str, status: str) -> None:
    job = same_answer(client, hook, "get_job", jobs[name]["submission_id"])
    assert (job["submission_id"], job["status"]) == (jobs[name]["submission_id"], status)


@pytest.mark.parametrize("method", ["get_job_logs", "list_job_logs"])
def test_the_whole_log(client: Client, hook: RayAgentHook, jobs: Jobs, method: str) -> None:
    job_id = jobs["prints"]["submission_id"]
    theirs = client.call(method, job_id)
    assert hook.get_job_logs(job_id) == theirs
    assert without_lines_of_ray(theirs, jobs["prints"]) == "\n".join(LINES)


def test_the_nodes_and_one_of_them(client: Client, hook: RayAgentHook) -> None:
    nodes = same_answer(client, hook, "list_nodes")
    assert [node["state"] for node in nodes] == ["ALIVE"]
    node = same_answer(client, hook, "get_node", nodes[0]["node_id"])
    assert node["node_id"] == nodes[0]["node_id"]


def test_the_tasks_and_one_of_them(client: Client, hook: RayAgentHook, jobs: Jobs) -> None:
    tasks = same_answer(client, hook, "list_tasks")
    doubles = [task for task in tasks if task["name"] == "double"]
    assert [task["state"] for task in doubles] == ["FINISHED"] * 3
    task = same_answer(client, hook, "get_task", doubles[0]["task_id"])
    assert (task["task_id"], task["name"]) == (doubles[0]["task_id"], "double")


def test_the_status_of_the_gpus(client: Client, hook: RayAgentHook) -> None:
    assert same_answer(client, hook, "get_gpu_status")


def test_the_resources_of_the_cluster(client: Client, hook: RayAgentHook) -> None:
    """The client turns the agent's answer into a model; what it knows of ours is the same."""

    def agrees(ours: Any, theirs: Any) -> bool:
        if isinstance(ours, dict):
            return all(agrees(value, theirs[name]) for name, value in ours.items() if name in theirs)
        if isinstance(ours, list):
            return len(ours) == len(theirs) and all(map(agrees, ours, theirs))
        return bool(ours == theirs)

    def ask() -> tuple[dict[str, Any], dict[str, Any]] | None:
        theirs, kind = client.call_for("get_cluster_resources", use_cache=False)
        ours = hook.get_cluster_resources(use_cache=False)
        assert kind == "ClusterResourceSnapshot"
        assert ours.keys() == theirs.keys()
        # What other tests have used may become free between the two requests.
        return (ours, theirs) if agrees(ours["cpu"], theirs["cpu"]) else None

    ours, theirs = wait_until(ask, "the answers differ in the CPUs")
    for name in ("gpu", "node_counts", "nodes", "total_serve_replicas"):
        assert agrees(ours[name], theirs[name]), name
    assert (ours["cpu"]["total"], ours["node_counts"]) == (4.0, {"total": 1, "alive": 1, "dead": 0})


@pytest.mark.parametrize(("cpus", "feasible"), [(1, True), (1000, False)])
def test_the_feasibility_of_a_job(client: Client, hook: RayAgentHook, cpus: float, feasible: bool) -> None:
    def ask() -> dict[str, Any]:
        theirs: dict[str, Any] = client.call("check_feasibility", "serve", cpus, replicas=2)
        return theirs

    # Ray reports the usage every few seconds; a job of another test may just have ended.
    wait_until(lambda: ask()["feasible"] is feasible or None, "feasibility")
    assert hook.check_feasibility("serve", cpus, replicas=2) == ask()


def test_the_policy(client: Client, hook: RayAgentHook) -> None:
    policy = same_answer(client, hook, "get_gatekeeping_policy")
    assert policy.items() <= client.call("get_runtime_policy").items()


def test_a_stop_of_a_running_job(client: Client, hook: RayAgentHook, agent: LocalAgent) -> None:
    for_them, for_us = (submit(agent, SLEEPS) for _ in range(2))
    for job_id in (for_them, for_us):
        agent.wait(job_id, statuses=("RUNNING",))
    theirs, kind = client.call_for("stop_job", for_them)
    ours = hook.stop_job(for_us)
    assert (ours, type(ours).__name__) == (theirs, kind)
    assert ours == {"stopped": True}
    assert [agent.wait(job_id)["status"] for job_id in (for_them, for_us)] == ["STOPPED", "STOPPED"]


def test_a_stop_of_a_job_that_has_ended(client: Client, hook: RayAgentHook, jobs: Jobs) -> None:
    def is_refused() -> bool | None:
        return same_answer(client, hook, "stop_job", jobs["prints"]["submission_id"]) == {"stopped": False} or None

    # The process that Ray stops, the job's supervisor, outlives the job by a moment.
    wait_until(is_refused, "Ray stops the job again and again")
