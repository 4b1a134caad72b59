"""What both hooks tell of the cluster's resources, over an agent and over plain Ray."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentInputError
from tests.scripted import Answer, Application, Job
from tests.scripted.routes import snapshot
from tests.unit.clusters import GIB, NODES, USED

if TYPE_CHECKING:
    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Serve


def counter(total: float, used: float = 0.0) -> dict[str, float]:
    return {"total": total, "used": used, "available": total - used}


def test_the_agents_answer_is_returned_as_it_is(ask: Ask, serve: Serve) -> None:
    agent = serve(nodes=NODES, used=USED)
    assert ask("get_cluster_resources") == snapshot(agent)
    assert ask("get_cluster_resources", use_cache=False) == snapshot(agent)
    assert [request.query for request in agent.requests] == ["use_cache=true", "use_cache=false"]
    assert {request.route for request in agent.requests} == {"GET resources/cluster/"}


def test_the_resources_over_ray_have_the_agents_form(ask: Ask, serve: Serve) -> None:
    deployments = {"Model": {"status": "HEALTHY", "replicas": [{}, {}]}, "Odd": None}
    app = Application("app", details={"deployments": deployments})
    agent = serve(Job(status="RUNNING"), Job(job_id="j2"), applications=[app], nodes=NODES, used=USED, service="ray")
    answer = ask("get_cluster_resources", False)
    assert [request.sent_path for request in agent.requests] == [
        "api/v0/nodes",
        "api/cluster_status",
        "api/jobs/",
        "api/serve/applications/",
    ]
    assert datetime.fromisoformat(answer.pop("collected_at")).tzinfo is not None
    head, worker, dead = answer.pop("nodes")
    assert answer == {
        "stale": False,
        "cpu": counter(24.0, 1.1),
        "memory": counter(96 * GIB),
        "object_store": counter(4 * GIB, GIB),
        "gpu": {"total_gpus": 4, "available_gpus": 2},
        "running_jobs": 1,
        "total_serve_replicas": 2,
        "node_counts": {"total": 3, "alive": 2, "dead": 1},
    }
    assert (head["host_name"], head["is_head_node"], head["accelerator_type"]) == ("head", True, None)
    assert worker == {
        "node_id": "b" * 56,
        "host_name": "worker",
        "ip": "10.0.0.2",
        "is_head_node": False,
        "state": "ALIVE",
        "accelerator_type": "A100",
        "accelerator_types": ["A100"],
        "cpu": counter(16.0, 0.1),
        "memory": counter(64 * GIB),
        "gpu": counter(4.0, 1.5),
    }
    assert dead["state"] == "DEAD"


@pytest.mark.parametrize("usage", [{}, {"loadMetricsReport": {"usageByNode": {}}}, None])
def test_what_ray_does_not_tell_is_missing(usage: Any, ask: Ask, serve: Serve) -> None:
    serve(
        answers={"GET api/cluster_status": [Answer(200, {"data": {"clusterStatus": usage}})]},
        nodes=NODES,
        used=USED,
        service="ray",
    )
    answer = ask("get_cluster_resources")
    assert answer["cpu"] == {"total": 24.0}
    assert answer["gpu"] == {"total_gpus": 4}
    assert answer["nodes"][1]["gpu"] == {"total": 4.0}


def test_a_feasibility_is_asked_for_with_every_argument(ask: Ask, serve: Serve) -> None:
    agent = serve()
    asked = {"num_gpus": 1.5, "memory_bytes": 10, "replicas": 2, "metadata": {"team": "a"}}
    assert ask("check_feasibility", "serve", 4, **asked) == {
        "allowed": True,
        "asked": {"kind": "serve", "num_cpus": 4, **asked},
    }
    ask("check_feasibility", "job", 0.5)
    assert json.loads(agent.requests[-1].body) == {
        "kind": "job",
        "num_cpus": 0.5,
        "num_gpus": 0.0,
        "memory_bytes": None,
        "replicas": 1,
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "pod"}, "Unknown kind 'pod'"),
        ({"num_cpus": -1}, "num_cpus must be a number of at least 0"),
        ({"num_gpus": float("nan")}, "num_gpus must be a number of at least 0"),
        ({"memory_bytes": 1.5}, "memory_bytes must be a whole number of bytes"),
        ({"replicas": 0}, "replicas must be a whole number greater than 0"),
        ({"metadata": {"x": object()}}, "metadata cannot be sent as JSON"),
    ],
)
def test_an_invalid_argument_is_refused_before_anything_is_sent(
    arguments: dict[str, Any], words: str, ask: Ask, serve: Serve
) -> None:
    agent = serve()
    with pytest.raises(RayAgentInputError, match=words):
        ask("check_feasibility", **{"kind": "job", "num_cpus": 1, **arguments})
    assert agent.requests == []
