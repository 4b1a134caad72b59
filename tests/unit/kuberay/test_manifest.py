"""The RayJob of a task: what an author may specify, its name, and what KubeRay is told."""

from __future__ import annotations

import copy
import json
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.kuberay.manifest import (
    MAX_NAME,
    SPEC_HASH,
    TASK,
    parse_spec,
    rayjob,
    rayjob_name,
    read_spec,
)
from airflow_provider_rayagent.services.validation import MAX_DURATION

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
HEAD = {
    "rayStartParams": {},
    "template": {
        "metadata": {"labels": {"team": "ml"}},
        "spec": {"containers": [{"name": "head", "image": "ray", "env": [{"name": "KEY", "value": "s3cret-value"}]}]},
    },
}
WORKERS = {
    "groupName": "gpu",
    "replicas": 2,
    "template": {
        "spec": {"initContainers": [{"name": "i", "env": [{"name": "A"}, {"name": "B", "value": "b-value"}]}]}
    },
}
SPEC: dict[str, Any] = {"rayVersion": "2.55.1", "headGroupSpec": HEAD, "workerGroupSpecs": [WORKERS]}
CLUSTER: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayCluster",
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}, "annotations": {"a": "b"}},
    "spec": SPEC,
}
IDENTITY = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
LABELS = {"dag_id": "d", "task_id": "t"}


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """Return a copy of an object with another value at a path such as ``metadata.name``."""
    result = copy.deepcopy(value)
    *parents, last = path.split(".")
    found = result
    for parent in parents:
        found = found.setdefault(parent, {})
    found[last] = new
    return result


def made(value: object = SPEC, **arguments: Any) -> dict[str, Any]:
    arguments = {"job_id": "d-t-1", "lifetime": 21_600, "start_timeout": 1800.0, "ttl": 600, **arguments}
    return rayjob("name", "ray", read_spec(value), IDENTITY, LABELS, **arguments)


def test_kuberay_submits_nothing_and_has_a_limit_in_every_state() -> None:
    assert made()["spec"] | {"rayClusterSpec": None} == {
        "submissionMode": "InteractiveMode",
        "jobId": "d-t-1",
        "activeDeadlineSeconds": 21_600,
        "preRunningDeadlineSeconds": 1920,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": None,
    }


def test_the_limit_before_the_job_is_not_longer_than_the_whole() -> None:
    assert made(start_timeout=MAX_DURATION)["spec"]["preRunningDeadlineSeconds"] == 21_600


def test_labels_say_whose_the_rayjob_and_its_pods_are() -> None:
    found = made(CLUSTER)
    ours = {"app.kubernetes.io/managed-by": "airflow-provider-rayagent", **LABELS}
    assert found["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "gpus", **ours}
    spec = found["spec"]["rayClusterSpec"]
    groups = (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    head, worker = (group["template"]["metadata"]["labels"] for group in groups)
    assert (head, worker) == ({"team": "ml", **ours}, ours)
    annotations = found["metadata"]["annotations"]
    assert (annotations["a"], json.loads(annotations[TASK])) == ("b", IDENTITY)


def test_the_authors_object_is_not_changed() -> None:
    before = copy.deepcopy(CLUSTER)
    made(CLUSTER)
    assert before == CLUSTER


def test_a_label_of_the_author_cannot_hide_whose_the_rayjob_is() -> None:
    found = made(changed(CLUSTER, "metadata.labels", {"dag_id": "another"}))
    assert found["metadata"]["labels"]["dag_id"] == "d"


def test_a_raycluster_and_its_spec_are_the_same_cluster() -> None:
    assert read_spec(CLUSTER).spec == read_spec(SPEC).spec == SPEC


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("spec.headGroupSpec.rayStartParams", {"num-cpus": "0"}),
        ("metadata.labels", {"kueue.x-k8s.io/queue-name": "others"}),
        ("metadata.annotations", {}),
    ],
)
def test_the_digest_tells_specifications_apart(path: str, new: Any) -> None:
    assert made(changed(CLUSTER, path, new))["metadata"]["annotations"][SPEC_HASH] != read_spec(CLUSTER).digest
    assert made(CLUSTER)["metadata"]["annotations"][SPEC_HASH] == read_spec(copy.deepcopy(CLUSTER)).digest


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("text", "must be a mapping"),
        ({1: 2}, "must be a mapping"),
        ({}, "no headGroupSpec"),
        ({"headGroupSpec": []}, "must be an object, not list"),
        ({"headGroupSpec": {"template": "t"}}, "template with a spec"),
        ({**SPEC, "workerGroupSpecs": [{"groupName": "x"}]}, "template with a spec"),
        ({**SPEC, "x": float("nan")}, "JSON"),
        ({**SPEC, "x": date(2026, 1, 1)}, "JSON"),
        ({**SPEC, "x": "y" * 1_000_001}, "more than"),
        (changed(CLUSTER, "kind", "RayJob"), "must be a RayCluster"),
        (changed(CLUSTER, "apiVersion", "v1"), "must be a RayCluster"),
        (changed(CLUSTER, "metadata", "x"), "must be an object"),
        (changed(CLUSTER, "metadata.labels", {"a": True}), "quote numbers and booleans"),
        (changed(CLUSTER, "metadata.name", "mine"), "metadata.name"),
        (changed(CLUSTER, "metadata.namespace", "other"), "metadata.namespace"),
        (changed(CLUSTER, "metadata.ownerReferences", [{}]), "metadata.ownerReferences"),
        (changed(CLUSTER, "metadata.finalizers", ["x"]), "metadata.finalizers"),
        ({**SPEC, "suspend": True}, "suspend"),
        ({**SPEC, "suspend": False}, "suspend"),
        ({**SPEC, "managedBy": "kueue.x-k8s.io/multikueue"}, "managedBy"),
        ({**SPEC, "gcsFaultToleranceOptions": {"redisAddress": "r"}}, "gcsFaultToleranceOptions"),
        (changed(SPEC, "headGroupSpec.headService.metadata.name", "s"), "headService"),
    ],
)
def test_what_the_task_sets_itself_is_refused(value: object, says: str) -> None:
    with pytest.raises(RayAgentInputError, match=says):
        read_spec(value, "the spec")


def test_the_values_of_all_containers_are_known_as_secrets() -> None:
    assert read_spec(SPEC).env_vars() == {"KEY": "s3cret-value", "B": "b-value"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0"),
        ("a: 1\n---\nb: 2", "has 2"),
        ("a: [1", r"is not YAML at line 1"),
        ("password: hunter2: x", r"is not YAML at line 1"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_file_that_is_not_one_yaml_document_is_refused_without_its_text(text: str, says: str) -> None:
    with pytest.raises(RayAgentInputError, match=says) as caught:
        parse_spec(text, "gpu.yaml")
    assert "hunter2" not in str(caught.value)


def test_a_yaml_file_is_read() -> None:
    text = "---\n# comment\nheadGroupSpec:\n  template: {spec: {}}\n---\n"
    assert read_spec(parse_spec(text, "gpu.yaml")).spec == {"headGroupSpec": {"template": {"spec": {}}}}


@given(st.text(alphabet="abcXYZ019_-", min_size=1, max_size=90))
def test_each_job_id_has_a_name_that_kuberay_takes(job_id: str) -> None:
    name = rayjob_name(job_id)
    assert DNS_1035.fullmatch(name)
    assert len(name) <= MAX_NAME
    assert name == rayjob_name(job_id)


def test_names_are_readable_and_tell_ids_apart_that_differ_in_case_or_at_their_ends() -> None:
    ids = ["a-b", "A-b", "a_b", "a-" * 40 + "x", "a-" * 40 + "y", "9", "-", "train-train-0123456789abcdef"]
    names = [rayjob_name(job_id) for job_id in ids]
    assert len(set(names)) == len(ids)
    assert names[-1].startswith("train-train-")
    assert "0123456789abcdef" not in names[-1]
