"""What is said of failures that only pods have: it runs by hand, on a Kubernetes cluster with KubeRay.

    KUBECONFIG=… RAYAGENT_RAY_IMAGE=rayproject/ray:2.55.1 python -m pytest tests/kubernetes

The pods' addresses must be reachable from here. With ``--update-records`` the answers of Ray are stored for unit tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from tests.local.looks import RecordingClient
from tests.local.test_failure_kinds import told
from tests.stack.watch import wait_until
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ray
NAME = "failures"
MEMORY_LIMIT = "1200Mi"
NO_MONITOR = {"RAY_memory_monitor_refresh_ms": "0"}
GROUPS: dict[str, dict[str, str]] = {"monitored": {}, "unmonitored": NO_MONITOR, "doomed": NO_MONITOR}
"""Worker groups, each with a resource of its name, and the environment variables of their pods."""
PROGRAM = """
import sys, time, ray
@ray.remote(max_retries=0, num_cpus=0, resources={{"{group}": 1}})
def train():
    print("reads the data", file=sys.stderr, flush=True)
    {body}
ray.get(train.remote())
"""
GROW = "kept = []\n    while True: kept.append(bytearray(20_000_000)); time.sleep(0.05)"


class Case(NamedTuple):
    """A failure in a pod.

    :param group: the worker group of the task.
    :param body: what the task does.
    :param told: a regular expression for the text about the failure.
    """

    group: str
    body: str
    kind: FailureKind
    told: str


CASES = {
    "memory_monitor-pod": Case(
        "monitored",
        GROW,
        FailureKind.OUT_OF_MEMORY,
        r"1 task train failed: its node was low on memory, and Ray killed the process \([\d.]+ of 1\.17 GB in use\)",
    ),
    "kernel-pod": Case(
        "unmonitored",
        GROW,
        FailureKind.WORKER_LOST,
        r"1 task train failed: its process died, and Ray does not know why; memory of its node at [\d:]+ UTC: "
        r"[\d.]+ of 1\.17 GiB in use",
    ),
    "deleted-pod": Case("doomed", "time.sleep(3600)", FailureKind.NODE_DIED, r"1 node was lost: [\d.]+ at [\d:]+ UTC"),
}


def kubectl(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod(name: str, variables: dict[str, str], image: str) -> dict[str, Any]:
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        # KubeRay's own probe ends a container that starts on a busy machine.
        "livenessProbe": {"exec": {"command": ["true"]}},
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "3Gi" if name == "head" else MEMORY_LIMIT}},
    }
    return {"spec": {"containers": [container]}}


def ray_cluster(image: str) -> dict[str, Any]:
    options = {"num-cpus": "0", "object-store-memory": "80000000"}
    head = {"rayStartParams": {**options, "dashboard-host": "0.0.0.0"}, "template": pod("head", {}, image)}
    groups = [
        {
            "groupName": name,
            "replicas": 1,
            "minReplicas": 1,
            "maxReplicas": 1,
            "rayStartParams": {**options, "resources": json.dumps(json.dumps({name: 1}))},
            "template": pod(name, variables, image),
        }
        for name, variables in GROUPS.items()
    ]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": NAME},
        "spec": {"headGroupSpec": head, "workerGroupSpecs": groups},
    }


class Dashboard(NamedTuple):
    """Ray's dashboard in the head's pod."""

    url: str

    def get(self, path: str) -> Any:
        response = requests.get(f"{self.url}/{path}", timeout=60)
        response.raise_for_status()
        return response.json()

    def live_nodes(self) -> list[dict[str, Any]]:
        try:
            rows = self.get("api/v0/nodes?detail=1")["data"]["result"]["result"]
        except requests.RequestException:
            return []
        return [row for row in rows if row["state"] == "ALIVE"]

    def submit(self, program: str) -> str:
        body = {"entrypoint": f"python -c {shlex.quote(program)}"}
        response = requests.post(f"{self.url}/api/jobs/", json=body, timeout=60)
        response.raise_for_status()
        return str(response.json()["submission_id"])

    def is_running(self) -> bool:
        rows = self.get("api/v0/tasks?filter_keys=state&filter_predicates==&filter_values=RUNNING")
        return bool(rows["data"]["result"]["result"])

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.get(f"api/jobs/{job_id}")
        return job


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Dashboard]:
    image = os.environ.get("RAYAGENT_RAY_IMAGE")
    if image is None or "KUBECONFIG" not in os.environ:
        pytest.skip("needs a Kubernetes cluster: KUBECONFIG and RAYAGENT_RAY_IMAGE")
    kubectl("apply", "-f", "-", text=json.dumps(ray_cluster(image)))
    try:
        chosen = ("-l", f"ray.io/cluster={NAME},ray.io/node-type=head", "-o", "jsonpath={.items[0].status.podIP}")
        address = wait_until(lambda: kubectl("get", "pods", *chosen) or None, "the head's pod has no address")
        found = Dashboard(f"http://{address}:8265")
        wait_until(lambda: len(found.live_nodes()) > len(GROUPS) or None, "not all nodes have started")
        yield found
    finally:
        kubectl("delete", "raycluster", NAME, "--wait=true")


@pytest.mark.parametrize("name", CASES)
def test_the_cause_of_a_failure_in_a_pod_is_told(name: str, dashboard: Dashboard, pytestconfig: pytest.Config) -> None:
    case = CASES[name]
    config = read_config(host=dashboard.url, extra={"service": "ray"})
    RecordingClient.recorder.answers.clear()
    job_id = dashboard.submit(PROGRAM.format(group=case.group, body=case.body))
    if case.group == "doomed":
        wait_until(lambda: dashboard.is_running() or None, "the task does not run")
        kubectl("delete", "pod", "-l", f"ray.io/cluster={NAME},ray.io/group={case.group}", "--wait=false")
    job = wait_until(lambda: ((found := dashboard.job(job_id))["status"] == "FAILED" and found) or None, "no failure")
    found = told(config, job, case.told)
    figure(f"{name}\n{found.explanation.text}")
    if pytestconfig.getoption("--update-records"):
        RecordingClient.recorder.store(name, job)
    assert found.explanation.kind is case.kind
    assert re.search(case.told, found.explanation.text)
