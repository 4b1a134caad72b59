"""Phases of a RayJob, and why its cluster is not ready, in the words that Kubernetes was measured to use."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.kuberay.rayjob_state import Phase, RayJob
from airflow_provider_rayagent.kuberay.waiting_reasons import MAX_TEXT, waiting_reason

NOW = 1_800_000_000.0
CREATED = "2027-01-15T07:59:00Z"


def job(status: Any = None, *, spec: Any = None, **metadata: Any) -> dict[str, Any]:
    metadata = {"name": "j", "uid": "u", "creationTimestamp": CREATED, **metadata}
    return {"kind": "RayJob", "metadata": metadata, "spec": spec or {}, "status": status}


def read(status: Any = None, **more: Any) -> RayJob:
    return RayJob.from_json(job(status, **more), NOW)


@pytest.mark.parametrize(
    ("status", "metadata", "phase"),
    [
        (None, {}, Phase.STARTING),
        ({}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": "Initializing"}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": "Waiting", "dashboardURL": "h:8265"}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": "Running"}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": "Running", "dashboardURL": "h:8265"}, {}, Phase.READY),
        ({"jobDeploymentStatus": "A new one"}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": 7, "dashboardURL": {}}, {}, Phase.STARTING),
        ({"jobDeploymentStatus": "Complete"}, {}, Phase.ENDED),
        ({"jobDeploymentStatus": "Failed"}, {}, Phase.ENDED),
        ({"jobDeploymentStatus": "Suspended"}, {}, Phase.SUSPENDED),
        ({"jobDeploymentStatus": "ValidationFailed"}, {}, Phase.INVALID),
        ({"jobDeploymentStatus": "Running", "dashboardURL": "h"}, {"deletionTimestamp": CREATED}, Phase.DELETING),
    ],
)
def test_phases(status: Any, metadata: dict[str, Any], phase: Phase) -> None:
    assert read(status, **metadata).phase is phase


def test_suspension_that_the_operator_has_not_seen_yet_counts() -> None:
    assert (
        read({"jobDeploymentStatus": "Running", "dashboardURL": "h"}, spec={"suspend": True}).phase is Phase.SUSPENDED
    )


def test_the_age_is_by_the_clock_of_kubernetes() -> None:
    assert read().age == 60.0
    assert read(creationTimestamp="2027-01-15T09:00:00Z").age == 0.0


@pytest.mark.parametrize(
    ("auth", "secret"),
    [
        (None, ""),
        ({"mode": "disabled"}, ""),
        ({"mode": "token"}, "c-abcde"),
        ({"mode": "token", "secretName": "s"}, "s"),
    ],
)
def test_the_secret_of_rays_token(auth: Any, secret: str) -> None:
    assert read({"rayClusterName": "c-abcde"}, spec={"rayClusterSpec": {"authOptions": auth}}).token_secret == secret


@pytest.mark.parametrize("annotation", ["{", "[]", 7, "7" * 5000, None])
def test_an_annotation_that_is_not_ours_is_nobodys(annotation: Any) -> None:
    assert read(annotations={"airflow-provider-rayagent/task": annotation}).task is None


@pytest.mark.parametrize("value", [None, [], {}, {"kind": "RayCluster", "metadata": {"name": "j", "uid": "u"}}, "x"])
def test_anything_else_is_no_rayjob(value: object) -> None:
    with pytest.raises(RayAgentResponseError):
        RayJob.from_json(value, NOW)


def pod(status: dict[str, Any], group: str = "headgroup") -> dict[str, Any]:
    return {"metadata": {"name": "c-head-x7k2p", "labels": {"ray.io/group": group}}, "status": status}


def waits(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "ray", "image": "registry/ray:1", "ready": False, "state": state, **more}]}


def ended(reason: str, code: int) -> dict[str, Any]:
    return {"lastState": {"terminated": {"reason": reason, "exitCode": code}}}


STARTING = {"jobDeploymentStatus": "Initializing"}
UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
NO_NODE = {
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE}]
}


@pytest.mark.parametrize(
    ("pods", "text"),
    [
        ([], None),
        ([pod({})], None),
        ([pod(waits("ContainerCreating"))], None),
        ([pod(waits("PodInitializing"))], None),
        ([pod(NO_NODE)], "no node for the head: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu"),
        (
            [pod(waits("ErrImagePull", "not found"))],
            "the head cannot be pulled: registry/ray:1: not found",
        ),
        (
            [pod(waits("CreateContainerConfigError", 'secret "s" not found'))],
            "the head cannot start: CreateContainerConfigError: ",
        ),
        (
            [pod(waits("CrashLoopBackOff", "back-off 10s", **ended("Error", 1)), "gpu")],
            "a worker of gpu has ended with exit code 1, ",
        ),
        ([pod(waits("CrashLoopBackOff", **ended("OOMKilled", 137)))], "more memory than its limit"),
        # What cannot be scheduled is the cause, also if another pod crashes without it.
        ([pod(waits("CrashLoopBackOff", **ended("Error", 1))), pod(NO_NODE, "gpu")], "no node for a worker of gpu"),
        (["not a pod"], None),
    ],
)
def test_the_reason_of_pods(pods: Any, text: str | None) -> None:
    reason = waiting_reason(read(STARTING), [p for p in pods if isinstance(p, dict)])
    assert (reason is None) is (text is None)
    if reason is not None and text is not None:
        assert text in reason.text
        assert not reason.is_final


def test_a_container_that_runs_again_but_is_not_ready_has_the_same_reason() -> None:
    rayjob, oom = read(STARTING), ended("OOMKilled", 137)
    running = {"containerStatuses": [{"image": "i", "ready": False, "state": {"running": {}}, **oom}]}
    before, after = (
        waiting_reason(rayjob, [pod(waits("CrashLoopBackOff", "10s", **oom))]),
        waiting_reason(rayjob, [pod(running)]),
    )
    assert before is not None
    assert after is not None
    assert before.key == after.key


def test_errors_of_an_image_alternate_under_one_key() -> None:
    rayjob = read(STARTING)
    found = [waiting_reason(rayjob, [pod(waits(why))]) for why in ("ErrImagePull", "ImagePullBackOff")]
    assert len({reason.key for reason in found if reason is not None}) == 1


def test_an_invalid_name_of_an_image_never_passes() -> None:
    reason = waiting_reason(read(STARTING), [pod(waits("InvalidImageName"))])
    assert reason is not None
    assert reason.is_final


def test_a_quota_is_told_once_though_each_attempt_has_another_pod() -> None:
    said = (
        'pods "j-abcde-head-{}" is forbidden: exceeded quota: q, requested: cpu=200m, used: cpu={}, limited: cpu=100m'
    )
    found = []
    for name, used in (("bwhs8", "0"), ("x7k2p", "100m")):
        condition = {"type": "ReplicaFailure", "status": "True", "message": said.format(name, used)}
        status = {"jobDeploymentStatus": "Initializing", "rayClusterStatus": {"conditions": [condition, "odd"]}}
        found.append(waiting_reason(read(status), [pod({})]))
    first, second = found
    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert first.text.startswith("a pod is forbidden: exceeded quota: q, requested: cpu=200m")


def test_a_queue_and_an_operator_that_does_not_run_are_told() -> None:
    suspended, unseen = waiting_reason(read({"jobDeploymentStatus": "Suspended"}), []), waiting_reason(read(), [])
    assert suspended is not None
    assert "Kueue" in suspended.text
    assert unseen is not None
    assert "operator" in unseen.text


def test_a_long_reason_is_cut() -> None:
    reason = waiting_reason(read({"x": 1}), [pod(waits("ErrImagePull", "x" * 100_000))])
    assert reason is not None
    assert len(reason.text) <= MAX_TEXT + 3
