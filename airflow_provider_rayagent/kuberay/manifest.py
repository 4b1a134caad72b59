"""The RayJob of a task, made of what the author has specified. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.kuberay.json_fields import object_in, objects_in
from airflow_provider_rayagent.services.validation import json_object, shown

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
MAX_NAME = 44
"""Characters. KubeRay adds a hyphen and five characters for the RayCluster, and truncates from 50 on (``CheckName`` in
its ``ray-operator/controllers/ray/utils/util.go``)."""
PRE_RUNNING_MARGIN = 120
"""Seconds after the ``start_timeout`` at which KubeRay ends a cluster whose task has not done so."""
MAX_SPEC_BYTES = 1_000_000
"""Of a specification as JSON. etcd takes objects of up to 1.5 MB."""

_PREFIX = "airflow-provider-rayagent"
TASK = f"{_PREFIX}/task"
"""Annotation: the task instance, as JSON."""
SPEC_HASH = f"{_PREFIX}/spec-hash"
"""Annotation: digest of the specification of the cluster."""
_MANAGED_BY = "app.kubernetes.io/managed-by"
_REFUSED_METADATA = ("name", "generateName", "namespace", "ownerReferences", "finalizers", "uid", "resourceVersion")
_REFUSED_SPEC = {
    "suspend": "a queue suspends the RayJob itself: give the RayCluster the label of the queue",
    "managedBy": "KubeRay must manage the cluster",
    "gcsFaultToleranceOptions": "the cluster ends with its task",
}
_DIGEST = re.compile(r"-[0-9a-f]{16}\Z")
_NO_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class ClusterSpec:
    """What the author has specified, after validation.

    :param spec: the ``spec`` of a RayCluster.
    :param labels: for the RayJob, such as the name of a queue.
    :param annotations: for the RayJob.
    """

    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A digest that differs for another specification."""
        text = json.dumps([self.spec, self.labels, self.annotations], sort_keys=True)
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def env_vars(self) -> dict[str, str]:
        """Return the environment variables of all containers with their values, which can be secrets."""
        return {
            str(each["name"]): each["value"]
            for template in _pod_templates(self.spec)
            for container in _containers(template)
            for each in objects_in(container, "env")
            if isinstance(each.get("value"), str) and "name" in each
        }


def parse_spec(text: str, name: str) -> object:
    """Return the object in the text of a YAML file.

    :param name: of the file, for messages.
    :raises RayAgentInputError: if it is not one YAML document.
    """
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Without the lines of the file, which can have secrets.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise RayAgentInputError(f"{name} is not YAML{where}: {problem}.") from None
    if len(documents) != 1:
        raise RayAgentInputError(f"{name} must have one YAML document, and has {len(documents)}.")
    return documents[0]


def read_spec(value: object, name: str = "spec") -> ClusterSpec:
    """Return the specification of a cluster.

    :param value: a RayCluster of KubeRay, or its ``spec``.
    :param name: what the value is called in messages.
    :raises RayAgentInputError: if it is neither, or has a field that the task or KubeRay sets.
    """
    found = json_object(value, name)
    metadata: Mapping[str, Any] = {}
    if "kind" in found or "apiVersion" in found:
        if found.get("kind") != "RayCluster" or not str(found.get("apiVersion")).startswith(f"{GROUP}/"):
            raise RayAgentInputError(
                f"{name} must be a RayCluster of {GROUP}/{VERSION}, or its spec, not a {shown(found.get('kind'))} of "
                f"{shown(found.get('apiVersion'))}."
            )
        metadata = _mapping(found.get("metadata"), f"{name}: metadata")
        found = dict(_mapping(found.get("spec"), f"{name}: spec"))
    _check_fields(found, metadata, name)
    if len(json.dumps(found)) > MAX_SPEC_BYTES:
        raise RayAgentInputError(f"{name} has more than {MAX_SPEC_BYTES} bytes.")
    return ClusterSpec(
        found,
        _texts(metadata.get("labels"), f"{name}: metadata.labels"),
        _texts(metadata.get("annotations"), f"{name}: metadata.annotations"),
    )


def _check_fields(spec: Mapping[str, Any], metadata: Mapping[str, Any], name: str) -> None:
    for field in _REFUSED_METADATA:
        if metadata.get(field) is not None:
            raise RayAgentInputError(f"{name} must not have metadata.{field}, which the task sets: leave it out.")
    for field, why in _REFUSED_SPEC.items():
        if spec.get(field) is not None:
            raise RayAgentInputError(f"{name} must not have {field}: {why}.")
    head = _mapping(spec.get("headGroupSpec"), f"{name}: headGroupSpec")
    if not head:
        raise RayAgentInputError(f"{name} has no headGroupSpec: it must be a RayCluster of KubeRay, or its spec.")
    service = _mapping(head.get("headService"), f"{name}: headService")
    if _mapping(service.get("metadata"), f"{name}: headService.metadata").get("name") is not None:
        raise RayAgentInputError(f"{name} must not name its headService: two clusters would share the name.")
    for template in _pod_templates(spec):
        if not isinstance(template.get("spec"), Mapping):
            raise RayAgentInputError(f"{name}: each group must have a template with a spec of its pods.")


def rayjob_name(base_id: str) -> str:
    """Return the name of the RayJob of a task, the same for all its tries: a DNS label (RFC 1035).

    :param base_id: the id of the task's job without a number.
    """
    # Of the whole id: names that differ in case only become equal, and long ones are cut.
    digest = blake2b(base_id.encode(), digest_size=8).hexdigest()
    words = _NO_NAME.sub("-", _DIGEST.sub("", base_id).lower()).strip("-")
    name = f"ray-{words}" if not words[:1].isalpha() else words
    return f"{name[: MAX_NAME - len(digest) - 1].strip('-')}-{digest}"


def rayjob(
    name: str,
    namespace: str,
    cluster: ClusterSpec,
    task: Mapping[str, Any],
    task_labels: Mapping[str, str],
    *,
    job_id: str,
    lifetime: int,
    start_timeout: float,
    ttl: int,
) -> dict[str, Any]:
    """Return the RayJob to be created.

    :param task: the identity of the task instance.
    :param task_labels: labels that say the same as far as labels can, for the RayJob and its pods.
    :param job_id: of the job that the task will submit. With it, KubeRay's deadline counts from the beginning, also if
        no job is submitted (RJ, ``JobDeploymentStatusWaiting``).
    :param lifetime: seconds after which KubeRay ends the cluster.
    :param start_timeout: seconds for which the task waits for the cluster.
    :param ttl: seconds for which KubeRay keeps the cluster after its job.
    """
    labels = {_MANAGED_BY: _PREFIX, **task_labels}
    spec = json.loads(json.dumps(cluster.spec))
    for template in _pod_templates(spec):
        # KubeRay does not pass on the labels of a RayJob to its pods.
        metadata = template["metadata"] = dict(_mapping(template.get("metadata"), "spec: metadata of a template"))
        metadata["labels"] = {**_mapping(metadata.get("labels"), "spec: labels of a template"), **labels}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**cluster.labels, **labels},
            "annotations": {
                **cluster.annotations,
                TASK: json.dumps(task, sort_keys=True),
                SPEC_HASH: cluster.digest,
            },
        },
        "spec": {
            # Nobody but the task submits: in the other modes, KubeRay can submit a job a second time (RJ, 305).
            "submissionMode": "InteractiveMode",
            "jobId": job_id,
            "activeDeadlineSeconds": lifetime,
            # From KubeRay 1.6; an older CRD drops it.
            "preRunningDeadlineSeconds": min(lifetime, int(start_timeout) + PRE_RUNNING_MARGIN),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": ttl,
            "rayClusterSpec": spec,
        },
    }


def _pod_templates(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pod templates of all groups; an empty object for a group without one."""
    for group in (spec.get("headGroupSpec"), *objects_in(spec, "workerGroupSpecs")):
        template = group.get("template") if isinstance(group, Mapping) else None
        yield template if isinstance(template, dict) else {}


def _containers(template: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    pod = object_in(template, "spec")
    for field in ("containers", "initContainers"):
        yield from objects_in(pod, field)


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RayAgentInputError(f"{name} must be an object, not {type(value).__name__}.")
    return value


def _texts(value: object, name: str) -> dict[str, str]:
    found = _mapping(value, name)
    if not all(isinstance(each, str) for each in found.values()):
        raise RayAgentInputError(f"{name}: each value must be text; in YAML, quote numbers and booleans.")
    return dict(found)
