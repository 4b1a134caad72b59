"""Why the cluster of a RayJob is not ready, from what Kubernetes says about the RayCluster and its pods. Pure.

A reason has a key that stays the same while Kubernetes varies its words: it alternates between ``ErrImagePull`` and
``ImagePullBackOff``, names another pod at each attempt, and counts nodes, attempts and seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.kuberay.rayjob_state import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.kuberay.rayjob_state import RayJob

MAX_TEXT = 500
"""Characters of a reason; the error of an image registry can have thousands."""
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
_MOMENTARY = frozenset({"", "ContainerCreating", "PodInitializing"})
_INVALID_IMAGE = "InvalidImageName"
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
            return _reason("replica", _POD_NAME.sub("a pod", _text(condition, "message")) or "a pod cannot be created")
    found = [reason for pod in pods for reason in _reasons_of_pod(pod)]
    return min(found, key=_rank, default=None)


def _reasons_of_pod(pod: Mapping[str, Any]) -> Iterator[WaitingReason]:
    metadata, status = _object(pod, "metadata"), _object(pod, "status")
    group = _text(_object(metadata, "labels"), _GROUP)
    who = "the head" if group in ("", "headgroup") else f"a worker of {group}"
    for condition in _objects(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _reason(
                "node", f"no node for {who}: {_text(condition, 'message') or _text(condition, 'reason')}", who
            )
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in _objects(status, field):
            state = _object(container, "state")
            waiting, last = _object(state, "waiting"), _last_end(container)
            why, message = _text(waiting, "reason"), _text(waiting, "message")
            image = _text(container, "image")
            if why == _INVALID_IMAGE:
                yield _reason("invalid image", f"the name of the image of {who} is invalid: {image}", image, final=True)
            elif why in _IMAGE:
                yield _reason("image", f"the image of {who} cannot be pulled: {image}: {message or why}", image)
            elif why == "CrashLoopBackOff" or (last and last != _DONE and not container.get("ready")):
                yield _reason("crash", f"{who} has ended{last}, and is started again", f"{who}{last}")
            elif why not in _MOMENTARY:
                yield _reason("container", f"{who} cannot start: {why}: {message}".rstrip(": "), why)


_DONE = " with exit code 0"


def _last_end(container: Mapping[str, Any]) -> str:
    """Return how the container has ended at last, for the middle of a sentence; empty if it never did."""
    ended = _object(_object(container, "lastState"), "terminated") or _object(_object(container, "state"), "terminated")
    if not ended:
        return ""
    reason, code = _text(ended, "reason"), ended.get("exitCode")
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


def _objects(values: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    found = values.get(field)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _object(values: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = values.get(field)
    return found if isinstance(found, Mapping) else {}


def _text(values: Mapping[str, Any], field: str) -> str:
    found = values.get(field)
    return found if isinstance(found, str) else ""
