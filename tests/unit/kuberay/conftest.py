"""An API server and a connection to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.kuberay.kubernetes_api import KubernetesApi
from tests.scripted.kubernetes_api import ScriptedKubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedKubernetes]:
    with ScriptedKubernetes() as server:
        extra = {"kube_config": json.dumps(server.kubeconfig)}
        monkeypatch.setenv("AIRFLOW_CONN_K8S", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        yield server


@pytest.fixture
def api(kubernetes: ScriptedKubernetes) -> KubernetesApi:
    return KubernetesApi("k8s", kubernetes.namespace)
