"""What the status of a RayJob means for its task. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.kuberay.json_fields import object_in, objects_in, text_in
from airflow_provider_rayagent.kuberay.manifest import SPEC_HASH, TASK
from airflow_provider_rayagent.services.validation import seconds_of_time


class Phase(Enum):
    """Where a RayJob is in its life."""

    STARTING = "starting"
    SUSPENDED = "suspended"
    """By a queue, or by a user: there is no cluster."""
    READY = "ready"
    """The cluster is there, and its job can be submitted, runs or has ended just now."""
    ENDED = "ended"
    """KubeRay has seen the end of the job, or a deadline. The cluster is there until the TTL."""
    INVALID = "invalid"
    """KubeRay rejects the specification, and does nothing more. A cluster that is there runs on."""
    DELETING = "deleting"
    """It was deleted, and is there until its pods are gone."""


_PHASES = {
    "Running": Phase.READY,
    "Complete": Phase.ENDED,
    "Failed": Phase.ENDED,
    "Suspending": Phase.SUSPENDED,
    "Suspended": Phase.SUSPENDED,
    "ValidationFailed": Phase.INVALID,
}
"""By ``jobDeploymentStatus``. Every other one, such as *Initializing* and *Waiting*, comes before *Running*."""


@dataclass(frozen=True)
class RayJob:
    """A RayJob, as Kubernetes has answered.

    :param cluster_name: the name of its RayCluster, empty if it has none.
    :param address: host and port of Ray's dashboard, empty if they are not known.
    :param job_status: Ray's status of the job, empty if KubeRay has never seen the job.
    :param reason: why KubeRay has ended it, such as ``DeadlineExceeded``; empty if it did not.
    :param message: what KubeRay says about that.
    :param task: what the task has written about itself, ``None`` if the RayJob is not one of this package.
    :param token_secret: name of the Secret with Ray's token, empty if Ray has none.
    :param age: seconds since its creation, by the clock of Kubernetes.
    :param is_seen: whether KubeRay's operator has processed it.
    :param conditions: those of the RayCluster, as far as the RayJob has them: while it is *Initializing*, from KubeRay
        1.5.1.
    """

    name: str
    uid: str
    phase: Phase
    cluster_name: str
    address: str
    job_status: str
    reason: str
    message: str
    task: Mapping[str, Any] | None
    spec_hash: str
    token_secret: str
    age: float
    is_seen: bool
    conditions: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_json(cls, value: object, now: float) -> RayJob:
        """Return the RayJob in an answer of Kubernetes.

        :param now: when it has answered, by its own clock: seconds since the epoch.
        :raises RayAgentResponseError: if it is none.
        """
        found = value if isinstance(value, Mapping) else {}
        metadata, spec, status = (object_in(found, field) for field in ("metadata", "spec", "status"))
        name, uid = text_in(metadata, "name"), text_in(metadata, "uid")
        if found.get("kind") != "RayJob" or not name or not uid:
            raise RayAgentResponseError("Kubernetes has not answered with a RayJob.")
        phase = _PHASES.get(text_in(status, "jobDeploymentStatus"), Phase.STARTING)
        if metadata.get("deletionTimestamp") is not None:
            phase = Phase.DELETING
        elif spec.get("suspend") is True and phase is not Phase.INVALID:
            phase = Phase.SUSPENDED
        elif phase is Phase.READY and not text_in(status, "dashboardURL"):
            phase = Phase.STARTING
        annotations = object_in(metadata, "annotations")
        auth = object_in(object_in(spec, "rayClusterSpec"), "authOptions")
        return cls(
            name=name,
            uid=uid,
            phase=phase,
            cluster_name=text_in(status, "rayClusterName"),
            address=text_in(status, "dashboardURL"),
            job_status=text_in(status, "jobStatus"),
            reason=text_in(status, "reason"),
            message=text_in(status, "message"),
            task=_task(annotations.get(TASK)),
            spec_hash=text_in(annotations, SPEC_HASH),
            # From KubeRay 1.5.1; ``secretName`` from 1.6.
            token_secret=(text_in(auth, "secretName") or text_in(status, "rayClusterName"))
            if auth.get("mode") == "token"
            else "",
            age=max(0.0, now - seconds_of_time(metadata.get("creationTimestamp") or now, "creationTimestamp")),
            # The operator writes a status when it first sees a RayJob.
            is_seen=bool(status),
            conditions=tuple(objects_in(object_in(status, "rayClusterStatus"), "conditions")),
        )


def _task(value: object) -> Mapping[str, Any] | None:
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
