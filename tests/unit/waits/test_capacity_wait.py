"""Wait for free resources: what counts, what is said of it, and what is not known."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentResourcesError, RayAgentServerError
from airflow_provider_rayagent.services.cluster_resources import cluster_resources, replicas_that_fit
from airflow_provider_rayagent.waits.capacity_wait import CapacityOutcome, CapacityWait
from airflow_provider_rayagent.waits.waiting import WaitResult

AWAY = RayAgentServerError("maintenance", 503)
UNREACHABLE = 300.0


def counter(total: float, available: float | None) -> dict[str, float]:
    return {"total": total} if available is None else {"total": total, "available": available}


def node(name: str = "a", *, cpus: float = 8, free: float | None = 8, **more: Any) -> dict[str, Any]:
    return {"node_id": name, "cpu": counter(cpus, free), "gpu": counter(0, 0), "memory": counter(0, 0), **more}


def wait(scale_up: bool = False, **required: Any) -> CapacityWait:
    return CapacityWait(**required, wait_for_scale_up=scale_up, agent_unreachable_timeout=UNREACHABLE)


def look(*nodes: Any, scale_up: bool = False, **required: Any) -> CapacityOutcome:
    """Look once; return the outcome after a round trip through its event and JSON."""
    outcome = wait(scale_up, **required).received({"nodes": list(nodes)}, 5)
    carried = CapacityOutcome.from_event(json.loads(json.dumps(outcome.to_event(), allow_nan=False)))
    assert (carried.result, carried.summary, str(carried.error)) == (
        outcome.result,
        outcome.summary,
        str(outcome.error),
    )
    return outcome


@pytest.mark.parametrize(
    ("nodes", "on_one_node", "result"),
    [
        ([node(free=3), node("b", free=3)], False, WaitResult.REACHED),
        ([node(free=3), node("b", free=3)], True, None),
        ([node(free=3), node("b", free=6)], True, WaitResult.REACHED),
        ([node(free=2), node("b", free=3)], False, None),
        ([node(free=8, state="DEAD"), node("b", free=3)], False, None),
        ([node(free=5.9999999)], True, WaitResult.REACHED),
        ([node(cpus=4, free=4)], True, WaitResult.FAILED),
        ([node(cpus=4, free=4), node("b", cpus=4, free=1)], True, WaitResult.FAILED),
        ([node(cpus=4, free=4), node("b", cpus=4, free=1)], False, None),
        ([], False, None),
        ([node(state="DEAD")], False, None),
    ],
)
def test_six_cpus_are_looked_for(nodes: list[Any], on_one_node: bool, result: WaitResult | None) -> None:
    outcome = look(*nodes, num_cpus=6, on_one_node=on_one_node)
    assert outcome.result is result
    assert isinstance(outcome.error, RayAgentResourcesError) is (result is WaitResult.FAILED)
    grows = look(*nodes, num_cpus=6, on_one_node=on_one_node, scale_up=True)
    assert grows.result is (None if result is WaitResult.FAILED else result)


def test_the_node_that_lacks_least_is_told() -> None:
    many_cpus = node("a", cpus=64, free=64, gpu=counter(4, 0))
    balanced = node("b", cpus=16, free=6, gpu=counter(4, 3), ip="10.0.0.2")
    outcome = look(many_cpus, balanced, num_cpus=8, num_gpus=4, on_one_node=True)
    assert outcome.status == (
        "Free on node 10.0.0.2: 3 GPUs, 6 CPUs. Required: 4 GPUs, 8 CPUs on one node. Missing: 1 GPU, 2 CPUs."
    )


@pytest.mark.parametrize("on_one_node", [True, False])
def test_every_accelerator_of_a_node_counts(on_one_node: bool) -> None:
    nodes: Any = [
        {
            "node_id": "a",
            "state": "ALIVE",
            "resources_total": {"CPU": 8, "accelerator_type:T4": 1, "accelerator_type:A10": 1},
        },
        {"node_id": "b", "state": "ALIVE", "resources_total": {"CPU": 2, "accelerator_type:L4": 1}},
    ]
    usage = {"a": {"CPU": [0, 8]}, "b": {"CPU": [0, 2]}}
    found = cluster_resources(nodes, usage, datetime.now(timezone.utc))["nodes"]
    for kind, result in (("A10", WaitResult.REACHED), ("T4", WaitResult.REACHED), ("L4", WaitResult.FAILED)):
        assert look(*found, num_cpus=4, accelerator_type=kind, on_one_node=on_one_node).result is result
    misspelled = look(*found, num_cpus=1, accelerator_type="A1O", on_one_node=on_one_node)
    assert " The accelerators of its nodes: A10, L4, T4. " in str(misspelled.error)


def test_figures_that_are_out_of_date_are_not_used() -> None:
    found = {"nodes": [node()], "stale": True, "collected_at": "2020-01-31T00:00:00+00:00"}
    outcome = wait(num_cpus=4).received(found, 5)
    assert outcome.result is None
    assert outcome.status == "What the cluster has free is out of date, of 2020-01-31T00:00:00+00:00."
    assert wait(num_cpus=4).received({**found, "stale": False}, 5).result is WaitResult.REACHED


@pytest.mark.parametrize("on_one_node", [True, False])
def test_an_unknown_amount_is_waited_for(on_one_node: bool) -> None:
    outcome = look(node(free=None), num_cpus=1, on_one_node=on_one_node)
    assert outcome.result is None
    assert "an unknown number of CPUs. Required: 1 CPU" in outcome.status
    assert look(node(free=None), num_cpus=9, on_one_node=on_one_node).result is WaitResult.FAILED
    assert look(node(cpu={}), num_cpus=9, on_one_node=on_one_node).result is None


@pytest.mark.parametrize("odd", ["x", None, [], True, float("nan"), {}])
def test_an_answer_that_is_odd_is_no_free_capacity(odd: Any) -> None:
    assert look(node(cpu={"total": 8, "available": odd}), num_cpus=4).result in (None, WaitResult.FAILED)


def test_requests_may_fail_for_a_time() -> None:
    waiting = wait(num_cpus=4)
    first = waiting.received({"nodes": [node(free=1)]}, 0)
    assert waiting.failed(AWAY, 10) == CapacityOutcome(None, first.summary, AWAY)
    assert waiting.needs_fast_poll
    given_up = waiting.failed(AWAY, 10 + UNREACHABLE)
    assert given_up == CapacityOutcome(WaitResult.AGENT_UNREACHABLE, first.summary, AWAY)


@pytest.mark.parametrize(
    ("required", "replicas", "now", "idle"),
    [
        ({"cpu": 4.0, "gpu": 0.0}, 10, 3, 4),
        ({"cpu": 4.0, "gpu": 1.0}, 10, 0, 1),
        ({"cpu": 4.0}, 2, 2, 2),
        ({"cpu": 0.0}, 5, 5, 5),
        ({"cpu": 0.1}, 1000, 120, 160),
    ],
)
def test_as_many_replicas_fit_as_the_nodes_have_room_for(
    required: dict[str, float], replicas: int, now: int, idle: int
) -> None:
    nodes = [
        node(free=8, state="ALIVE"),
        node("b", free=4, gpu=counter(1, 0), state="ALIVE"),
        node("c", state="DEAD"),
    ]
    assert replicas_that_fit(nodes, required, replicas, "available") == now
    assert replicas_that_fit(nodes, required, replicas, "total") == idle


def test_a_cluster_without_nodes_has_nothing() -> None:
    from datetime import datetime, timezone

    empty = cluster_resources([], None, datetime.now(tz=timezone.utc))
    assert empty["cpu"] == {"total": 0, "used": 0, "available": 0}
    assert empty["gpu"] == {"total_gpus": 0, "available_gpus": 0}
