"""One RayJob per task: found, created, replaced and deleted, and the wait until its cluster is ready."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseHook

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentInputError
from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError
from airflow_provider_rayagent.kuberay import task_cluster
from airflow_provider_rayagent.kuberay.cluster_wait import ClusterOutcome, ClusterWait
from airflow_provider_rayagent.kuberay.kubernetes_api import KubernetesApi
from airflow_provider_rayagent.kuberay.manifest import rayjob, read_spec
from airflow_provider_rayagent.kuberay.task_cluster import ClusterReference, TaskCluster, delete_cluster
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.waits.waiting import WaitResult
from tests.scripted.kubernetes_api import failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted.kubernetes_api import ScriptedKubernetes
    from tests.unit.support import TaskLog

LOG = BaseHook().log
SPEC = {"headGroupSpec": {"template": {"spec": {"containers": [{"name": "head"}]}}}}
TASK = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}


def body(task: dict[str, Any] = TASK, spec: dict[str, Any] = SPEC) -> dict[str, Any]:
    return rayjob("j", "ray", read_spec(spec), task, {}, job_id="d-t", lifetime=3600, start_timeout=60.0, ttl=600)


@pytest.fixture
def make(api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskCluster]:
    monkeypatch.setattr(task_cluster, "DELETION_SECONDS", 0.01)

    def make(
        made: dict[str, Any] | None = None, *, concluded: str = "", start_timeout: float = 30.0, **more: Any
    ) -> TaskCluster:
        return TaskCluster(
            api,
            made or body(),
            LOG,
            start_timeout=start_timeout,
            is_concluded=concluded.__eq__,
            patiently=more.get("patiently", lambda function: function()),
            raise_if_killed=more.get("raise_if_killed", lambda: None),
        )

    return make


def test_a_cluster_is_created_once_and_found_by_each_later_try(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, log: TaskLog
) -> None:
    first = make().find_or_create()
    assert make().find_or_create() == first
    assert kubernetes.verbs() == ["get rayjobs", "create rayjobs", "get rayjobs"]
    assert log.messages == ["Created RayJob j for this task: kubectl -n ray describe rayjob j"]


def test_after_a_lost_answer_the_created_one_is_found(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes
) -> None:
    def lose_answer() -> None:
        # The server has processed the request, and closes the connection.
        kubernetes._rayjob("POST", "ray", "", body())
        raise ConnectionAbortedError

    def patiently(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except RayAgentError:
            return function()

    kubernetes.fail("create rayjobs", lose_answer)
    assert make(patiently=patiently).find_or_create().uid == "uid-1"
    assert kubernetes.verbs().count("create rayjobs") == 1


@pytest.mark.parametrize("owner", [None, {**TASK, "run_id": "another"}, {**TASK, "airflow": "https://other"}])
def test_the_rayjob_of_another_task_is_left_alone(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi, owner: dict[str, Any] | None
) -> None:
    theirs = body(owner or TASK)
    if owner is None:
        del theirs["metadata"]["annotations"]
    api.create(theirs)
    with pytest.raises(RayAgentInputError, match="not this task's") as caught:
        make().find_or_create()
    assert caught.value.code is Code.JOB_ID_TAKEN
    assert "delete rayjobs" not in kubernetes.verbs()


READY = {"jobDeploymentStatus": "Running", "dashboardURL": "h:8265", "rayClusterName": "j-abcde"}


@pytest.mark.parametrize(
    ("status", "concluded", "changed", "is_replaced"),
    [
        ({}, False, False, False),
        ({}, False, True, True),
        ({"jobDeploymentStatus": "Initializing"}, True, False, True),
        (READY, False, False, False),
        (READY, False, True, True),
        (READY, True, False, True),
        # Its job was submitted, and is followed.
        ({**READY, "jobStatus": "RUNNING"}, False, True, False),
        # An outcome that no try has stored is this try's.
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, False, True, False),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}, False, False, False),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}, True, False, True),
        ({"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded"}, False, False, True),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": "DeadlineExceeded"}, False, False, True),
        ({"jobDeploymentStatus": "ValidationFailed"}, False, False, True),
        ({"jobDeploymentStatus": "Suspended"}, False, False, False),
    ],
)
def test_what_an_earlier_try_has_left_is_used_or_replaced_after_its_pods_are_gone(
    make: Callable[..., TaskCluster],
    kubernetes: ScriptedKubernetes,
    status: dict[str, Any],
    concluded: bool,
    changed: bool,
    is_replaced: bool,
) -> None:
    make().find_or_create()
    kubernetes.set_status("j", **status)
    # What is deleted is there for two more looks.
    kubernetes.fail("get rayjobs", *[lambda: None] * 3, lambda: kubernetes.finish_deletion("j"))
    spec = {**SPEC, "rayVersion": "2.55.1"} if changed else SPEC
    found = make(body(spec=spec), concluded="uid-1" if concluded else "").find_or_create()
    assert found.uid == ("uid-2" if is_replaced else "uid-1")
    assert kubernetes.verbs().count("delete rayjobs") == int(is_replaced)


def test_pods_that_do_not_end_are_named_after_the_start_timeout(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi, log: TaskLog
) -> None:
    make().find_or_create()
    api.delete("j", "uid-1")
    with pytest.raises(RayAgentJobNotStartedError, match=r"start_timeout of 0\.1 seconds"):
        make(start_timeout=0.1).find_or_create()
    assert log.messages[1:] == ["RayJob j was deleted; waiting until its pods are gone."]


def test_a_killed_task_creates_nothing(make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes) -> None:
    def killed() -> None:
        raise RayAgentError("killed")

    with pytest.raises(RayAgentError, match="killed"):
        make(raise_if_killed=killed).find_or_create()
    assert kubernetes.requests == []


def test_a_failed_deletion_is_a_warning_with_a_code(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi, log: TaskLog
) -> None:
    cluster = make()
    reference = cluster.reference(cluster.find_or_create())
    assert reference == ClusterReference("k8s", "ray", "j", "uid-1")
    kubernetes.fail("delete rayjobs", failed(403, "Forbidden", "cannot delete"))
    delete_cluster(api, reference, LOG)
    delete_cluster(api, reference, LOG)
    kubernetes.finish_deletion("j")
    delete_cluster(api, reference, LOG)
    assert log.messages[1].startswith("RA-710: RayJob j could not be deleted")
    assert log.messages[2:] == ["Deleted RayJob j; its cluster ends now.", "RayJob j of this task no longer exists."]


def poll(wait: ClusterWait, api: KubernetesApi) -> ClusterOutcome:
    outcome = finish(wait.poll(api))
    # As it comes out of a trigger's event.
    return ClusterOutcome.from_event(json.loads(json.dumps(outcome.to_event())))


def test_each_reason_is_told_once_until_the_cluster_is_ready(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi
) -> None:
    make().find_or_create()
    wait, told = ClusterWait("j", "uid-1"), []

    def reason(why: str) -> list[dict[str, Any]]:
        state = {"waiting": {"reason": why, "message": f"{why} of 10s"}}
        return [{"status": {"containerStatuses": [{"image": "ray", "ready": False, "state": state}]}}]

    told.append(poll(wait, api).status)
    kubernetes.set_status("j", jobDeploymentStatus="Initializing", rayClusterName="j-abcde")
    for why in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        kubernetes.pods = reason(why)
        told.append(poll(wait, api).status)
    kubernetes.run("j", "h:8265")
    outcome = poll(wait, api)
    assert told[0].startswith("KubeRay's operator has not processed the RayJob")
    assert set(told[1:]) == {"the image of the head cannot be pulled: ray: ErrImagePull of 10s"}
    assert (outcome.result, outcome.status) == (WaitResult.REACHED, "ready")
    assert outcome.summary is not None
    assert outcome.summary["reasons"] == [told[0], told[1]]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"jobDeploymentStatus": "ValidationFailed", "message": "bad name"}, "rejects RayJob j .*: bad name"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "ended the cluster .*DeadlineExceeded"),
    ],
)
def test_what_will_never_be_ready_ends_the_wait_at_once(
    make: Callable[..., TaskCluster],
    kubernetes: ScriptedKubernetes,
    api: KubernetesApi,
    status: dict[str, Any],
    says: str,
) -> None:
    make().find_or_create()
    kubernetes.set_status("j", **status)
    outcome = poll(ClusterWait("j", "uid-1"), api)
    assert outcome.result is WaitResult.FAILED
    with pytest.raises(RayAgentError, match=says):
        raise outcome.error or AssertionError


@pytest.mark.parametrize("uid", ["uid-1", "another"])
def test_a_rayjob_that_somebody_deletes_or_replaces_ends_the_wait(
    make: Callable[..., TaskCluster], api: KubernetesApi, uid: str
) -> None:
    make().find_or_create()
    api.delete("j", "uid-1")
    outcome = poll(ClusterWait("j", uid), api)
    assert outcome.result is WaitResult.FAILED
    assert outcome.error is not None
    assert outcome.error.code is Code.CLUSTER_FAILED


def test_kubernetes_that_is_away_for_a_moment_is_told_and_waited_for(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi
) -> None:
    make().find_or_create()
    kubernetes.fail("get rayjobs", (503, "no"), 0.0)
    wait = ClusterWait("j", "uid-1", agent_unreachable_timeout=60.0)
    assert [poll(wait, api).result for _ in range(3)] == [None, None, None]
    assert wait.last.summary is not None
    api_down, unseen = wait.last.summary["reasons"]
    assert "503" in api_down
    assert unseen.startswith("KubeRay's operator has not processed")


def test_pods_that_may_not_be_read_are_told_and_do_not_end_the_wait(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes, api: KubernetesApi
) -> None:
    make().find_or_create()
    kubernetes.set_status("j", jobDeploymentStatus="Initializing", rayClusterName="j-abcde")
    kubernetes.fail("list pods", failed(403, "Forbidden", "pods is forbidden"))
    outcome = poll(ClusterWait("j", "uid-1"), api)
    assert outcome.result is None
    assert "pods is forbidden" in outcome.status


def test_the_wait_has_the_same_text_in_an_event_loop(
    make: Callable[..., TaskCluster], kubernetes: ScriptedKubernetes
) -> None:
    make().find_or_create()
    wait, told = ClusterWait("j", "uid-1", poll_interval=0.01), list[str]()

    async def follow() -> ClusterOutcome:
        in_loop = KubernetesApi("k8s", "ray", is_in_loop=True)
        return await wait.until_decided(
            in_loop, seconds_left=lambda: 30.0, pause=asyncio.sleep, on_status=lambda s: told.append(wait.describe(s))
        )

    kubernetes.fail("get rayjobs", *[lambda: None] * 3, lambda: kubernetes.run("j", "h:8265"))
    assert asyncio.run(follow()).result is WaitResult.REACHED
    assert [each.partition(":")[0] for each in told] == ["Waiting for the cluster of RayJob j", "The cluster is ready."]
