"""Answers about nodes, resources and tasks whose parts have any other type than they should."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.cli.tables import gpu_rows, node_rows
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentResponseError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call, finish, run_steps
from airflow_provider_rayagent.services.cluster_resources import replicas_that_fit
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.ui.clusters import _resources
from airflow_provider_rayagent.ui.pending_work import waiting_tasks
from airflow_provider_rayagent.waits.capacity_wait import CapacityOutcome, CapacityWait, shown_free
from airflow_provider_rayagent.waits.waiting import WaitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_rayagent.services.call import Operation

NAN = float("nan")
MISSING = object()
ODD: list[Any] = [
    *(None, True, False, "x", "", [], {}, 0, -1, -0.5, NAN, float("inf"), 10**400, 1.7e308, [None], ["x", "y"], [{}]),
    *({"total": "x"}, {"a": None}, [[NAN, 1]], MISSING),
]
NODES: list[dict[str, Any]] = [
    {
        "node_id": name * 56,
        "node_ip": f"10.0.0.{number}",
        "node_name": "worker",
        "is_head_node": number == 1,
        "state": "ALIVE",
        "resources_total": {"CPU": 8.0, "GPU": 4.0, "memory": 2.0**33, "accelerator_type:A100": 1.0},
    }
    for number, name in enumerate("ab")
]
USAGE = {"a" * 56: {"CPU": [1.0, 8.0], "GPU": [1.0, 4.0], "memory": [0.0, 2.0**33]}, "10.0.0.1": {"CPU": [2.0, 8.0]}}
RAYS: dict[str, Any] = {
    "api/v0/nodes": {"data": {"result": {"result": NODES}}},
    "api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": USAGE}}}},
    "api/jobs/": [{"submission_id": "j1", "job_id": "01000000", "status": "RUNNING"}],
    "api/serve/applications/": {"applications": {"app": {"deployments": {"d": {"replicas": [{}, {}]}}}}},
    "api/v0/tasks": {
        "data": {
            "result": {
                "result": [
                    {
                        "name": "f",
                        "type": "NORMAL_TASK",
                        "state": "PENDING_NODE_ASSIGNMENT",
                        "job_id": "01000000",
                        "attempt_number": attempt,
                        "required_resources": {"CPU": 1.0},
                    }
                    for attempt in range(2)
                ]
            }
        }
    },
}
AGENTS: dict[str, Any] = {
    "resources/cluster/": {
        "collected_at": "2020-01-31T00:00:00+00:00",
        "stale": False,
        "cpu": {"total": 16.0, "used": 3.0, "available": 13.0},
        "gpu": {"total_gpus": 4, "available_gpus": 3},
        "node_counts": {"total": 2, "alive": 2},
        "nodes": [
            {
                "node_id": "a",
                "ip": "10.0.0.1",
                "state": "ALIVE",
                "accelerator_type": "A100",
                "accelerator_types": ["A100"],
                "cpu": {"total": 8.0, "available": 7.0},
                "memory": {"total": 2**33, "available": 2**32},
                "gpus": [{"memory_total": 80_000, "memory_used": 1}] * 2,
            },
            {"node_id": "b", "gpu": {"total": 4.0, "available": 1.0}},
        ],
    },
}
REQUIRED: list[dict[str, Any]] = [
    {"num_gpus": 2},
    {"num_gpus": 1, "num_cpus": 4, "on_one_node": True},
    {"memory_bytes": 2**30, "accelerator_type": "A100"},
]


def changes(value: Any) -> Iterator[Any]:
    """Yield a JSON value again and again, each time with one part of it that is odd or missing."""
    yield from ODD
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for at, part in parts:
        for changed in changes(part):
            copy = deepcopy(value)
            if changed is MISSING:
                del copy[at]
            else:
                copy[at] = changed
            yield copy


def ask(operation: Operation, answers: dict[str, Any]) -> Any:
    """Return the result of an operation.

    :param answers: by path.
    """

    async def do(step: Any) -> Any:
        path = step.path.partition("?")[0]
        answer = answers.get(path, {})
        # As in ``transport/responses.py``.
        is_list = isinstance(answer, list) and all(isinstance(item, dict) for item in answer)
        if not {"object": isinstance(answer, dict), "list": is_list}.get(step.shape, True):
            raise RayAgentResponseError("other JSON")
        return answer if step.convert is None else step.convert(answer)

    return finish(do(operation) if isinstance(operation, Call) else run_steps(operation, do))


def read_resources(service: Any, answers: dict[str, Any]) -> None:
    """Read the resources of a cluster as sensors, commands, the page and messages do."""
    found = ask(service.get_capacity(), answers)
    for required in REQUIRED:
        wait = CapacityWait(**required)
        CapacityOutcome.from_event(json.loads(json.dumps(wait.received(found, 5).to_event(), allow_nan=False)))
    gpu_rows(found)
    shown_free(found)
    json.dumps(_resources(found, Redactor()), allow_nan=False)


def read_of_ray(answers: dict[str, Any]) -> None:
    found = ask(RAY.get_cluster_resources(), answers)
    replicas_that_fit(found["nodes"], {"cpu": 1e-320, "gpu": 1.0}, 3, "available")
    ask(RAY.get_gpu_status(), answers)


def read_nodes(answers: dict[str, Any]) -> None:
    node_rows(ask(RAY.list_nodes(), answers))
    ask(RAY.get_node("a" * 56), answers)


def read_tasks(answers: dict[str, Any]) -> None:
    ask(RAY.get_task("a" * 48), answers)
    jobs = ask(RAY.list_jobs(), answers)
    json.dumps(waiting_tasks(ask(RAY.list_waiting_tasks(), answers), jobs, Redactor()), allow_nan=False)


def submit(answers: dict[str, Any]) -> None:
    version = {"api/version": {"ray_version": "2.60.0"}}
    needed = {"entrypoint_num_gpus": 8.0, "entrypoint_resources": {"x": 1.0}}
    ask(RAY.submit_job("true", **needed), {**answers, **version})


READERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], None]]] = {
    "resources of Ray": (RAYS, partial(read_resources, RAY)),
    "all of Ray": (RAYS, read_of_ray),
    "nodes": (RAYS, read_nodes),
    "tasks": (RAYS, read_tasks),
    "submission": (RAYS, submit),
    "resources of an agent": (AGENTS, partial(read_resources, AGENT)),
}


@pytest.mark.parametrize(("reader", "path"), [(name, path) for name in READERS for path in READERS[name][0]])
def test_each_part_of_an_answer_may_be_anything(reader: str, path: str) -> None:
    answers, read = READERS[reader]
    for changed in changes(answers[path]):
        with suppress(RayAgentError):
            read({**answers, path: {} if changed is MISSING else changed})


@pytest.mark.parametrize("level", ["data", "clusterStatus", "loadMetricsReport", "usageByNode"])
@pytest.mark.parametrize("odd", [[], "x", 7, True])
def test_a_usage_in_another_form_is_an_error_that_says_so(level: str, odd: Any) -> None:
    path = ("data", "clusterStatus", "loadMetricsReport", "usageByNode")
    answer: Any = odd
    for key in reversed(path[: path.index(level) + 1]):
        answer = {key: answer}
    with pytest.raises(RayAgentResponseError, match=rf"cluster_status\) in an unknown form: {level} is no JSON object"):
        ask(RAY.get_capacity(), {**RAYS, "api/cluster_status": answer})


@pytest.mark.parametrize("entry", [["CPU"], {"CPU": {"used": 1}}, {"CPU": []}, {"CPU": ["x", 8.0]}, {"CPU": 1.0}])
def test_a_usage_whose_amounts_all_have_another_form_is_an_error_and_one_of_many_is_unknown(entry: Any) -> None:
    def status(**usage: Any) -> dict[str, Any]:
        report = {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": usage}}}}
        return ask(RAY.get_capacity(), {**RAYS, "api/cluster_status": report})  # type: ignore[no-any-return]

    with pytest.raises(RayAgentResponseError, match="usageByNode has no"):
        status(**{"a" * 56: entry, "b" * 56: entry})
    found = status(**{"a" * 56: entry, "b" * 56: {"CPU": [2.0, 8.0]}})
    assert [node["cpu"] for node in found["nodes"]] == [{"total": 8.0}, {"total": 8.0, "used": 2.0, "available": 6.0}]
    assert found["cpu"] == {"total": 16.0}


@pytest.mark.parametrize("odd", ["x", -1, NAN, True, [], 10**400])
def test_an_amount_that_is_none_is_unknown_and_does_not_hide_the_other_nodes(odd: Any) -> None:
    first, second = deepcopy(NODES)
    first["resources_total"]["CPU"] = odd
    nodes = {"data": {"result": {"result": [first, second]}}}
    found = ask(RAY.get_capacity(), {**RAYS, "api/v0/nodes": nodes})
    assert [node["cpu"] for node in found["nodes"]] == [{}, {"total": 8.0, "used": 2.0, "available": 6.0}]
    assert found["cpu"] == {"total": 8.0}
    # Six are free at least; whether there are 12 in all is not known.
    for cpus, result in ((6, WaitResult.REACHED), (12, None)):
        assert CapacityWait(num_cpus=cpus).received(found, 5).result is result
    assert shown_free(found).startswith("Free in the cluster: 3 of 8 GPUs, 6 of unknown CPUs, ")


def test_a_node_without_an_id_counts_by_its_address() -> None:
    nodes = [{name: value for name, value in node.items() if name != "node_id"} for node in NODES]
    found = ask(RAY.get_capacity(), {**RAYS, "api/v0/nodes": {"data": {"result": {"result": nodes}}}})
    assert [node["node_id"] for node in found["nodes"]] == [None, None]
    assert found["nodes"][1]["cpu"] == {"total": 8.0, "used": 2.0, "available": 6.0}


@pytest.mark.parametrize("odd", ["x", ["CPU"], {"CPU": "x"}, {"CPU": {"total": 8}}])
def test_nodes_none_of_which_tells_its_resources_are_an_error(odd: Any) -> None:
    nodes = {"data": {"result": {"result": [{**node, "resources_total": odd} for node in NODES]}}}
    for operation in (RAY.get_capacity(), RAY.get_gpu_status()):
        with pytest.raises(RayAgentResponseError, match="resources_total"):
            ask(operation, {**RAYS, "api/v0/nodes": nodes})


@pytest.mark.parametrize("field", ["cpu", "memory", "object_store", "gpu", "node_counts", "nodes"])
def test_a_field_of_an_agent_that_has_another_type_is_an_error(field: str) -> None:
    odd: Any
    for odd in ("x", 7, True, {} if field == "nodes" else []):
        answer = {**AGENTS["resources/cluster/"], field: odd}
        with pytest.raises(RayAgentResponseError, match=f"unknown form: {field} is no JSON"):
            ask(AGENT.get_capacity(), {"resources/cluster/": answer})


def test_what_is_no_node_is_passed_over() -> None:
    answer: Any = {"nodes": [None, "x", {"node_id": "a"}, []]}
    assert ask(AGENT.get_capacity(), {"resources/cluster/": answer}) == {"nodes": [{"node_id": "a"}]}
    assert ask(AGENT.get_capacity(), {"resources/cluster/": {"nodes": None}}) == {"nodes": []}


def test_a_job_is_not_refused_for_nodes_whose_amounts_are_unknown() -> None:
    nodes = [{**NODES[0], "resources_total": {"GPU": "x"}}, NODES[1]]
    answers = {**RAYS, "api/v0/nodes": {"data": {"result": {"result": nodes}}}}
    answers["api/version"] = {"ray_version": "2.60.0"}
    assert ask(RAY.submit_job("true", job_id="j1", entrypoint_num_gpus=8.0), answers) == "j1"
