"""The page about clusters: a RayCluster and the connection to it belong together."""

from __future__ import annotations

import json

import yaml  # type: ignore[import-untyped]

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.ray_service import RAY
from tests.docs.conftest import PAGES, code_blocks

TEXT = (PAGES / "ray-clusters.md").read_text(encoding="utf-8")
[CLUSTER] = (document for text in code_blocks(TEXT, "yaml") for document in yaml.safe_load_all(text))
[CONNECTION] = map(json.loads, code_blocks(TEXT, "json"))


def test_the_cluster_requires_a_token_that_the_shown_commands_copy() -> None:
    name, namespace = CLUSTER["metadata"]["name"], CLUSTER["metadata"]["namespace"]
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert f"kubectl get secret {name} -n {namespace} " in TEXT


def test_the_connection_leads_to_the_cluster_with_its_token() -> None:
    config = read_config(host=CONNECTION["host"], extra=CONNECTION["extra"])
    name, namespace = CLUSTER["metadata"]["name"], CLUSTER["metadata"]["namespace"]
    assert config.service is RAY
    assert config.base_url == f"http://{name}-head-svc.{namespace}:8265/"
    [command] = [line for line in TEXT.splitlines() if line.startswith("kubectl create secret generic")]
    assert command.endswith("--from-file=token")
    assert CONNECTION["extra"]["token_file"].endswith("/token")
