"""The resources of a cluster, as the page gets them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.responses import JSONResponse

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.ui import clusters
from airflow_provider_rayagent.ui.shared import SharedResults
from airflow_provider_rayagent.ui.user_connections import ViewedService
from tests.scripted import Answer
from tests.unit.clusters import NODES, USED

if TYPE_CHECKING:
    from tests.unit.support import Serve


@pytest.fixture(autouse=True)
def _own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Get the results in the event loop of a test, whose threads end with it, and none of an earlier test."""
    monkeypatch.setattr(clusters, "_shared", SharedResults())
    monkeypatch.setattr(clusters, "page_thread", SimpleNamespace(run=lambda steps: steps))


def shown(**found: Any) -> Any:
    return json.loads(bytes(JSONResponse(found).body))


def test_a_number_that_json_does_not_have_is_no_error(serve: Serve) -> None:
    cpu = {"total": float("nan"), "used": float("inf"), "available": 10**400}
    serve(answers={"GET resources/cluster/": [Answer(200, {"cpu": cpu, "nodes": [{"cpu": cpu}, None]})]})
    resources = asyncio.run(clusters.resources_of(ViewedService("rayagent_default"))).value
    assert [node["cpu"]["total"] for node in shown(**resources)["nodes"]] == ["nan"]


@pytest.mark.parametrize("usage", [["x"], {"a": ["x"]}, {"a": {"CPU": "x"}}])
def test_a_usage_of_another_release_of_ray_is_an_error_that_says_so(usage: Any, serve: Serve) -> None:
    status = {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": usage}}}}
    serve(service="ray", nodes=NODES, used=USED, answers={"GET api/cluster_status": [Answer(200, status)]})
    with pytest.raises(RayAgentResponseError, match="api/cluster_status"):
        asyncio.run(clusters.resources_of(ViewedService("rayagent_default")))
