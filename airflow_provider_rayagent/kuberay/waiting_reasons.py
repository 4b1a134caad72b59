"""Why the cluster of a RayJob is not ready, from what Kubernetes says about the RayCluster and its pods. Pure.

A reason has a key that stays the same while Kubernetes varies its words: it alternates between ``ErrImagePull`` and
``ImagePullBackOff``, names another pod at each attempt, and counts nodes, attempts and seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.kuberay.json_fields import object_in, objects_in, text_in
from airflow_provider_rayagent.kuberay.rayjob_state import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_rayagent.kuberay.rayjob_state import RayJob

MAX_TEXT = 500
"""Characters of a reason; the error of an image registry can have thousands."""
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
_MOMENTARY = frozenset({"", "ContainerCreating", "PodInitializing"})
_INVALID_IMAGE = "InvalidImageName"
_DONE = " with exit code 0"
_GROUP = "ray.io/group"
"""Label that KubeRay gives to each pod; of the head it is ``headgroup``."""
_POD_NAME = re.compile(r'pods? "?[a-z0-9.-]+"?( in namespace "?[a-z0-9-]+"?)?', re.IGNORECASE)
_VARIABLE = re.compile(r"[0-9]+(?:\.[0-9]+)?[a-z]*|[a-z0-9-]+-[a-z0-9]{5}\b")


@dataclass(frozen=True)
class WaitingReason:
    """Why a cluster is not ready.

    :param text: a clause without a period.
    :param key: the same for the same reason in other words.
    :param is_final: whether it cannot pass.
    """

    text: str
    key: str
    is_final: bool = False


def waiting_reason(rayjob: RayJob, pods: Sequence[Mapping[str, Any]]) -> WaitingReason | None:
    """Return why the cluster is not ready; ``None`` if there is nothing to say but that it starts.

    :param pods: those of its RayCluster, the answer of Kubernetes.
    """
    if rayjob.phase is Phase.SUSPENDED:
        return _reason("suspended", "the RayJob is suspended; a queue such as Kueue may not have admitted it yet")
    if not rayjob.is_seen:
        return _reason("unseen", "KubeRay's operator has not processed the RayJob; is it running?")
    for condition in rayjob.conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return _reason(
                "replica", _POD_NAME.sub("a pod", text_in(condition, "message")) or "a pod cannot be created"
            )
    found = [reason for pod in pods for reason in _reasons_of_pod(pod)]
    return min(found, key=_rank, default=None)


def _reasons_of_pod(pod: Mapping[str, Any]) -> Iterator[WaitingReason]:
    metadata, status = object_in(pod, "metadata"), object_in(pod, "status")
    group = text_in(object_in(metadata, "labels"), _GROUP)
    who = "the head" if group in ("", "headgroup") else f"a worker of {group}"
    for condition in objects_in(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _reason(
                "node", f"no node for {who}: {text_in(condition, 'message') or text_in(condition, 'reason')}", who
            )
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in objects_in(status, field):
            state = object_in(container, "state")
            waiting, last = object_in(state, "waiting"), _last_end(container)
            why, message = text_in(waiting, "reason"), text_in(waiting, "message")
            image = text_in(container, "image")
            if why == _INVALID_IMAGE:
                yield _reason("invalid image", f"the name of the image of {who} is invalid: {image}", image, final=True)
            elif why in _IMAGE:
                yield _reason("image", f"the image of {who} cannot be pulled: {image}: {message or why}", image)
            elif why == "CrashLoopBackOff" or (last and last != _DONE and not container.get("ready")):
                yield _reason("crash", f"{who} has ended{last}, and is started again", f"{who}{last}")
            elif why not in _MOMENTARY:
                yield _reason("container", f"{who} cannot start: {why}: {message}".rstrip(": "), why)


def _last_end(container: Mapping[str, Any]) -> str:
    """Return how the container has ended at last, for the middle of a sentence; empty if it never did."""
    ended = object_in(object_in(container, "lastState"), "terminated") or object_in(
        object_in(container, "state"), "terminated"
    )
    if not ended:
        return ""
    reason, code = text_in(ended, "reason"), ended.get("exitCode")
    if reason == "OOMKilled":
        return ", since it used more memory than its limit (OOMKilled)"
    return f" with exit code {code}" if isinstance(code, int) else f" ({reason or 'unknown'})"


_RANKS = ("invalid image", "node", "image", "container", "crash")


def _rank(reason: WaitingReason) -> int:
    """Return which reason is told first: one without which the others would be the same is the cause."""
    return _RANKS.index(reason.key.partition(":")[0])


def _reason(kind: str, text: str, about: str | None = None, *, final: bool = False) -> WaitingReason:
    text = " ".join(text.split())
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}..."
    key = _VARIABLE.sub("#", text.lower()) if about is None else about
    return WaitingReason(text.rstrip("."), f"{kind}:{key}", is_final=final)
