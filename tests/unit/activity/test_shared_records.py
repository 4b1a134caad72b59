"""What is asked of a cluster for the looks of all its jobs, how long it is kept, and what many jobs cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity.demands import SUPERVISOR_PREFIX
from airflow_provider_rayagent.activity.shared_records import KEPT_SECONDS, SharedRecords
from airflow_provider_rayagent.activity.wait_look import look_at_wait
from airflow_provider_rayagent.errors.service_errors import RayAgentServerError
from airflow_provider_rayagent.services.call import Call, finish, run_steps
from airflow_provider_rayagent.services.ray_responses import ClusterStatus
from airflow_provider_rayagent.services.ray_service import RAY
from tests.failure_records import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.activity.wait_reasons import WaitReason

PENDING, RUNNING = {"status": "PENDING"}, {"status": "RUNNING", "job_id": "02000000"}
WAITING = "api/v0/tasks job_id=02000000 state=PENDING_NODE_ASSIGNMENT"
RUNS = "api/v0/tasks job_id=02000000 state=RUNNING"
NODE = {"node_id": "a", "node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 4.0}}
TASK = {"name": "f", "state": "PENDING_NODE_ASSIGNMENT", "required_resources": {"CPU": 4.0}}


class Cluster:
    """Answers the requests of looks, and counts them."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "api/v0/nodes": [NODE],
            "api/cluster_status": ClusterStatus({"a": {"CPU": [3.0, 4.0]}}, written_at=self.now),
            WAITING: [TASK],
        }
        self.records = SharedRecords(RAY, lambda: self.now, lambda moment: self.now - moment)

    async def _do(self, call: Any) -> Any:
        assert isinstance(call, Call)
        self.asked.append(key_of(call))
        answer = self.answers.get(key_of(call), [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pending(self, *job_ids: str) -> None:
        """List jobs that have not started."""
        resources = {"required_resources": {"CPU": 9.0}}
        self.answers["api/v0/actors class_name=JobSupervisor state=PENDING_CREATION"] = [
            {"name": f"{SUPERVISOR_PREFIX}{job_id}", **resources} for job_id in job_ids
        ]

    def look(self, job_id: str, job: dict[str, Any]) -> WaitReason | None:
        self.asked.clear()
        found: WaitReason | None = finish(run_steps(look_at_wait(self.records, job_id, job, str), self._do))
        return found


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def text_of(reason: WaitReason | None) -> str:
    return reason.text if reason else ""


def test_the_lists_are_asked_for_once_for_all_jobs(cluster: Cluster) -> None:
    cluster.pending("j1", "j2")
    assert text_of(cluster.look("j1", PENDING)) == "it requires 9 CPUs; no node has more than 4 CPUs"
    assert len(cluster.asked) == 4
    assert cluster.look("j2", PENDING) == cluster.look("j1", PENDING)
    assert cluster.asked == []
    cluster.now += KEPT_SECONDS
    cluster.look("j1", PENDING)
    assert len(cluster.asked) == 4


def test_a_job_that_is_new_is_looked_for_again(cluster: Cluster) -> None:
    cluster.pending("j1")
    cluster.look("j1", PENDING)
    cluster.pending("j1", "j2")
    assert cluster.look("j2", PENDING) is None
    cluster.now += 11
    assert text_of(cluster.look("j2", PENDING)).startswith("it requires 9 CPUs")
    assert len(cluster.asked) == 1


def test_an_error_is_kept_and_does_not_grow(cluster: Cluster) -> None:
    cluster.answers["api/cluster_status"] = RayAgentServerError("busy", 500)
    for _ in range(3):
        with pytest.raises(RayAgentServerError, match="busy") as caught:
            cluster.look("j1", PENDING)
    assert cluster.asked == []
    assert len(caught.traceback) < 20


def test_what_a_monitor_that_has_died_says_is_not_told(cluster: Cluster) -> None:
    assert text_of(cluster.look("j1", RUNNING)) == "1 task f requires 4 CPUs; free: 1 of 4 CPUs"
    cluster.now += 300
    assert text_of(cluster.look("j1", RUNNING)) == "1 task f requires 4 CPUs; Ray does not tell what is free"


def test_tasks_that_wait_for_others_of_their_job_are_not_told(cluster: Cluster) -> None:
    cluster.answers[RUNS] = [{"name": "f", "state": "RUNNING"}]
    assert cluster.look("j1", RUNNING) is None
    cluster.answers[WAITING] = [{**TASK, "required_resources": {"GPU": 1.0}}]
    assert text_of(cluster.look("j1", RUNNING)) == "1 task f requires 1 GPU; no node has any GPU"


def test_a_long_list_of_tasks_is_said_to_be_cut(cluster: Cluster) -> None:
    cluster.answers[WAITING] = [TASK] * 100
    reason = cluster.look("j1", RUNNING)
    assert text_of(reason) == "at least 100 tasks f require 4 CPUs each; free: 1 of 4 CPUs"
    # Between two tasks, a job that makes progress looks the same.
    assert reason is not None
    assert reason.is_momentary


def test_the_rest_of_a_placement_group_that_lost_a_node_is_told(cluster: Cluster) -> None:
    bundles = [{"unit_resources": {"CPU": 2.0}, "node_id": node_id} for node_id in ("a", "", "dead")]
    group = {"creator_job_id": "02000000", "state": "RESCHEDULING", "name": "g", "bundles": bundles}
    cluster.answers |= {"api/v0/placement_groups": [group], WAITING: []}
    expected = "its placement group g lost a node and still requires 2 x {2 CPUs}; free: 1 of 4 CPUs"
    assert text_of(cluster.look("j1", RUNNING)) == expected


@pytest.mark.parametrize("actors", [999, 1_000])
def test_who_holds_the_rest_is_told_if_the_lists_are_complete(actors: int, cluster: Cluster) -> None:
    holder = {"class_name": "Trainer", "job_id": "03000000", "required_resources": {"CPU": 3.0}}
    cluster.answers["api/v0/actors state=ALIVE"] = [holder, *[{"class_name": "Trainer"}] * (actors - 1)]
    cluster.answers["api/jobs/"] = [{"submission_id": "j2", "job_id": "03000000"}]
    is_complete = actors < 1_000
    held = ", held by j2 (3 CPUs)" if is_complete else ""
    assert text_of(cluster.look("j1", RUNNING)) == f"1 task f requires 4 CPUs; free: 1 of 4 CPUs{held}"
    assert ("api/jobs/" in cluster.asked) is is_complete


def test_an_equal_environment_of_others_is_not_taken_for_the_reason(cluster: Cluster) -> None:
    environment = '{"pip": {"packages": ["torch"]}}'
    cluster.answers[WAITING] = [{**TASK, "runtime_env_info": {"serialized_runtime_env": environment}}]
    row = {"runtime_env": {"pip": {"packages": ["torch"]}}, "success": None, "node_id": "a"}
    cluster.answers["api/v0/runtime_envs"] = [row]
    assert text_of(cluster.look("j1", RUNNING)) == (
        "1 task f requires 4 CPUs; free: 1 of 4 CPUs; an equal runtime environment is being set up on node 10.0.0.1"
    )


def seconds_of_looks(nodes: int, jobs: Sequence[str]) -> float:
    """Return how long the looks at all jobs take in one half minute, without the first one."""
    cluster = Cluster()
    cluster.answers["api/v0/nodes"] = [{**NODE, "node_id": str(number)} for number in range(nodes)]
    cluster.answers["api/v0/actors state=ALIVE"] = [
        {"class_name": "Worker", "job_id": "01", "required_resources": {"CPU": 1.0}}
    ] * 900
    usage = {str(number): {"CPU": [3.0, 4.0]} for number in range(nodes)}
    cluster.answers["api/cluster_status"] = ClusterStatus(usage)
    rows = [{"name": f"{SUPERVISOR_PREFIX}{job_id}", "required_resources": {"CPU": 4.0}} for job_id in jobs]
    cluster.answers["api/v0/actors class_name=JobSupervisor state=PENDING_CREATION"] = rows
    cluster.look(jobs[0], PENDING)
    began = time.process_time()
    for job_id in jobs:
        assert cluster.look(job_id, PENDING) is not None
    return time.process_time() - began


def test_a_look_takes_as_long_in_a_cluster_of_any_size() -> None:
    jobs = [f"j{number}" for number in range(300)]
    small, large = (min(seconds_of_looks(nodes, jobs) for _ in range(3)) for nodes in (1, 1_000))
    assert large < 5 * small
