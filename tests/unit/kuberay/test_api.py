"""Requests to Kubernetes over a socket: what is sent, what each answer means, and how long anyone waits."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentTimeoutError,
)
from airflow_provider_rayagent.errors.transience import is_outcome_unknown, is_permanent, is_transient
from airflow_provider_rayagent.kuberay import kubernetes_api
from airflow_provider_rayagent.kuberay.kubernetes_api import MAX_SECONDS, KubernetesApi
from airflow_provider_rayagent.kuberay.rayjob_state import Phase
from tests.scripted.kubernetes_api import failed

if TYPE_CHECKING:
    from tests.scripted.kubernetes_api import ScriptedKubernetes


def body(name: str = "j") -> dict[str, Any]:
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}, "spec": {}}


def test_a_rayjob_is_created_once_read_and_deleted(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    assert api.get("j") is None
    created = api.create(body())
    assert created is not None
    assert api.create(body()) is None
    assert api.get("j") == created
    assert api.delete("j", created.uid)
    found = api.get("j")
    assert found is not None
    assert found.phase is Phase.DELETING
    kubernetes.finish_deletion("j")
    assert not api.delete("j", created.uid)
    assert {headers["authorization"] for headers in kubernetes.headers} == {"Bearer kubernetes-token"}


def test_only_the_rayjob_that_was_seen_is_deleted_and_its_pods_first(
    kubernetes: ScriptedKubernetes, api: KubernetesApi
) -> None:
    created = api.create(body())
    assert created is not None
    assert not api.delete("j", "another")
    assert "deletionTimestamp" not in kubernetes.rayjobs["j"]["metadata"]
    assert kubernetes.requests[-1][3] == {"propagationPolicy": "Foreground", "preconditions": {"uid": "another"}}


@pytest.mark.parametrize(
    ("answer", "kind", "says", "transient", "permanent"),
    [
        (failed(403, "Forbidden", "cannot get rayjobs"), RayAgentHTTPError, "pods/log: get", False, True),
        (failed(401, "Unauthorized", "Unauthorized"), RayAgentHTTPError, "401", False, True),
        ((429, "slow down"), RayAgentHTTPError, "429", True, False),
        ((503, "<html>"), RayAgentServerError, "503 .*: Service Unavailable", True, False),
        (failed(500, "InternalError", "etcdserver: timed out"), RayAgentServerError, "etcdserver", False, False),
        (failed(404, "NotFound", "page"), RayAgentConfigError, "KubeRay's operator is not installed", False, True),
        ((200, []), RayAgentResponseError, "not answered with a RayJob", False, False),
        ((200, "text"), RayAgentResponseError, "not answered with a RayJob", False, False),
    ],
)
def test_each_refusal_has_an_error_that_is_told_apart(
    kubernetes: ScriptedKubernetes,
    api: KubernetesApi,
    answer: Any,
    kind: type[RayAgentError],
    says: str,
    transient: bool,
    permanent: bool,
) -> None:
    kubernetes.fail("get rayjobs", answer)
    with pytest.raises(kind, match=says) as caught:
        api.get("j")
    assert (is_transient(caught.value), is_permanent(caught.value)) == (transient, permanent)
    # A Retry-After of an hour, which is that of the 429, is not waited for.
    assert len(kubernetes.requests) == 1


def test_a_namespace_that_does_not_exist_is_named(kubernetes: ScriptedKubernetes) -> None:
    with pytest.raises(RayAgentHTTPError, match='namespaces "other" not found'):
        KubernetesApi("k8s", "other").create(body())


def test_without_kuberay_nothing_can_be_created(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    kubernetes.has_kuberay = False
    with pytest.raises(RayAgentConfigError, match="operator is not installed"):
        api.create(body())
    with pytest.raises(RayAgentConfigError, match="operator is not installed"):
        api.get("j")


def test_the_namespace_is_that_of_the_connection_or_default(
    kubernetes: ScriptedKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KubernetesApi("k8s").namespace == "default"
    extra = {"kube_config": json.dumps(kubernetes.kubeconfig), "namespace": "ray"}
    monkeypatch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    assert KubernetesApi("k8s").namespace == "ray"
    assert KubernetesApi("k8s", "mine").namespace == "mine"


def test_a_lost_answer_leaves_the_outcome_unknown(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    kubernetes.fail("create rayjobs", 0.0)
    with pytest.raises(RayAgentConnectionError, match="cannot be reached") as caught:
        api.create(body())
    assert is_outcome_unknown(caught.value)
    # urllib3 has not sent it a second time.
    assert kubernetes.verbs() == ["create rayjobs"]


def test_a_server_that_hangs_is_waited_for_within_limits(
    kubernetes: ScriptedKubernetes, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_api, "MAX_SECONDS", 0.2)
    kubernetes.fail("get rayjobs", 60.0)
    with pytest.raises(RayAgentTimeoutError, match=r"within 0\.2 seconds"):
        api.get("j")


def test_a_server_that_is_down_is_told(api: KubernetesApi, kubernetes: ScriptedKubernetes) -> None:
    kubernetes.stop()
    with pytest.raises(RayAgentConnectionError, match="Connection refused"):
        api.get("j")


@pytest.mark.parametrize(
    "extra",
    [
        {"kube_config_path": "/does/not/exist"},
        {"kube_config": "not json"},
        {"kube_config": "{}", "in_cluster": True},
        {"in_cluster": True},
    ],
)
def test_a_connection_that_cannot_be_used_is_a_config_error(
    extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with pytest.raises(RayAgentConfigError, match="'k8s' of Kubernetes cannot be used"):
        KubernetesApi("k8s", "ray").get("j")


def test_without_the_provider_the_error_says_what_to_install(
    api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.hooks.kubernetes", None)
    with pytest.raises(RayAgentConfigError, match=r"airflow-provider-rayagent\[kuberay\]"):
        api.get("j")


def test_the_token_of_ray_is_in_a_secret(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    kubernetes.secrets = {"good": {"auth_token": "ray-token\n"}, "odd": {"other": "x"}}
    assert api.token("good") == "ray-token"
    with pytest.raises(RayAgentResponseError, match="no auth_token"):
        api.token("odd")
    with pytest.raises(RayAgentHTTPError, match="get secrets"):
        api.token("absent")


def test_pods_and_their_last_lines(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    kubernetes.pods = [{"metadata": {"name": "p"}}]
    kubernetes.logs = {"p": "one\ntwo\n"}
    assert api.pods("c-abcde") == kubernetes.pods
    assert kubernetes.requests[-1][2]["labelSelector"] == ["ray.io/cluster=c-abcde"]
    assert api.last_lines("p") == "one\ntwo\n"
    kubernetes.fail("list pods", (200, {"items": 7}), (200, "x"), (200, {"items": ["x"]}))
    assert api.pods("c") == []
    with pytest.raises(RayAgentResponseError):
        api.pods("c")
    assert api.pods("c") == []


def test_the_age_of_a_rayjob_is_by_the_clock_of_the_server(kubernetes: ScriptedKubernetes, api: KubernetesApi) -> None:
    kubernetes.clock_ahead = 3600.0
    api.create(body())
    kubernetes.rayjobs["j"]["metadata"]["creationTimestamp"] = kubernetes.timestamp(ago=100)
    found = api.get("j")
    assert found is not None
    assert 99 <= found.age < 3600


async def test_an_event_loop_runs_on_while_the_server_hangs(kubernetes: ScriptedKubernetes) -> None:
    api, is_asked, may_answer = KubernetesApi("k8s", "ray", is_in_loop=True), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(is_asked.set)
        may_answer.wait(MAX_SECONDS)

    kubernetes.fail("get rayjobs", hang)
    answer = asyncio.ensure_future(api.ask(api.get, "j"))
    # A loop that is blocked never learns it, and the request fails.
    await is_asked.wait()
    assert not answer.done()
    may_answer.set()
    assert await answer is None
