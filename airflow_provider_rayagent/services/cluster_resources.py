"""Resources of a cluster, in the form of the agent's ``resources/cluster/``, computed from Ray's node states. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.service import RESOURCE_KINDS
from airflow_provider_rayagent.services.validation import (
    MAX_INTEGER,
    json_object,
    validate_amount,
    validate_bytes,
    validate_choice,
    validate_count,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    Row = Mapping[str, Any]

FIELDS = (
    *("collected_at", "stale", "cpu", "memory", "object_store", "gpu", "node_counts", "nodes"),
    *("running_jobs", "total_serve_replicas"),
)
"""The fields of the agent's ``resources/cluster/``."""
_PARTS = ("total", "used", "available")
_TYPE_PREFIX = "accelerator_type:"
_DIGITS = 4
"""Ray counts resources in units of 0.0001 (``raylet/scheduling/fixed_point.h``)."""
TOLERANCE = 1e-6
"""Larger than the errors of sums of floating-point numbers, and smaller than that unit."""


def amount_of(value: object) -> float | None:
    """Return an amount in a response of a service; ``None`` if the value is none, such as a text, NaN or -1."""
    # An integer of JSON may be too large for a float, and sums of the largest floats are infinite.
    is_amount = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
    return float(value) if is_amount else None  # type: ignore[arg-type]


def used_of(usage: Row | None, resource: str) -> float | None:
    """Return how much of a resource is in use; ``None`` if that is unknown.

    :param usage: of :func:`usage_of`.
    """
    # ``api/cluster_status`` has the names of resources in camel case, the state API as they are (``to_camel_case`` in
    # ``dashboard/utils.py``).
    first, *others = resource.split("_")
    return used_amount((usage or {}).get(first + "".join(each.title() for each in others)))


def used_amount(pair: object) -> float | None:
    """Return the first value of ``[used, total]``; ``None`` for anything else."""
    return amount_of(pair[0]) if isinstance(pair, list) and pair else None


def checked_resources(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an agent's response to ``resources/cluster/``, without entries among its nodes that are no nodes.

    :raises RayAgentResponseError: if one of its fields has another type than in the agent's client.
    """
    fields = {**dict.fromkeys(("cpu", "memory", "object_store", "gpu", "node_counts"), dict), "nodes": list}
    for name, kind in fields.items():
        if answer.get(name) is not None and not isinstance(answer[name], kind):
            raise RayAgentResponseError(
                f"The agent tells the resources of its cluster in an unknown form: {name} is no JSON "
                f"{'list' if kind is list else 'object'}."
            )
    return {**answer, "nodes": [node for node in answer.get("nodes") or () if isinstance(node, dict)]}


def cluster_resources(nodes: Sequence[Row], usage: Mapping[str, Row] | None, now: datetime) -> dict[str, Any]:
    """Return the resources of a cluster by kind and by node, dead nodes included.

    A counter has ``total``, ``used`` and ``available``; only ``total`` if Ray does not report the usage, and nothing if
    the amount of a node is no number. GPUs are those that Ray assigns to jobs: how busy they are, and their memory, is
    unknown.

    :param nodes: rows of Ray's state API, with ``resources_total``.
    :param usage: ``{node_id or IP address: {resource: [used, total]}}``, or ``None`` if unknown.
    :raises RayAgentResponseError: if no live node tells its resources in Ray's form.
    """
    _check_form(nodes)
    rows = [_node(node, usage_of(node, usage)) for node in nodes]
    alive = [row for row in rows if row["state"] == "ALIVE"]
    gpus = sum_of(row["gpu"] for row in alive)
    # The agent's API has whole numbers here, but a Ray task can take a part of a GPU.
    summary = {"total_gpus": math.floor(gpus["total"])}
    if "available" in gpus:
        summary["available_gpus"] = math.floor(gpus["available"])
    # In the agent's form only the cluster has an object store, not the node.
    stores = [
        _counter(node, "object_store_memory", usage_of(node, usage)) for node in nodes if node.get("state") == "ALIVE"
    ]
    return {
        "collected_at": now.isoformat(),
        "stale": False,
        "cpu": sum_of(row["cpu"] for row in alive),
        "memory": sum_of(row["memory"] for row in alive),
        "object_store": sum_of(stores),
        "gpu": summary,
        "node_counts": {"total": len(rows), "alive": len(alive), "dead": len(rows) - len(alive)},
        "nodes": rows,
    }


def usage_of(node: Row, usage: Mapping[str, Row] | None) -> Row | None:
    """Return what of a node is in use.

    :param usage: see :func:`cluster_resources`.
    """
    # With an autoscaler's configuration, Ray has the nodes' IP addresses there instead of their ids
    # (``update_load_metrics`` in ``autoscaler/_private/monitor.py``).
    usage = usage or {}
    found = usage.get(str(node.get("node_id"))) or usage.get(str(node.get("node_ip")))
    return found if isinstance(found, dict) else None


def _check_form(nodes: Sequence[Row]) -> None:
    alive = [node for node in nodes if node.get("state") == "ALIVE"]
    # One odd node of many is listed, without the amounts that are unknown.
    if alive and not any(map(_is_readable, alive)):
        raise RayAgentResponseError("Ray tells the resources of its nodes (resources_total) in an unknown form.")


def _is_readable(node: Row) -> bool:
    totals = _totals(node)
    return totals is not None and (not totals or any(amount_of(value) is not None for value in totals.values()))


def total_of(node: Row, name: str) -> float | None:
    """Return how much a node has of a resource; ``None`` if that is unknown.

    :param node: a row of Ray's state API, with ``resources_total``.
    """
    totals = _totals(node)
    return None if totals is None else amount_of(totals.get(name, 0))


def _totals(node: Row) -> Row | None:
    """Return a node's resources; ``None`` if they are in an unknown form."""
    totals = node.get("resources_total") or {}
    return totals if isinstance(totals, dict) else None


def gpu_status(nodes: Sequence[Row], usage: Mapping[str, Row] | None) -> dict[str, Any]:
    """Return the GPUs of the live nodes, per node and in total; what is in use and free is ``None`` if unknown.

    The parameters and errors are those of :func:`cluster_resources`.
    """
    _check_form(nodes)
    rows, counters = [], []
    for node in nodes:
        if node.get("state") == "ALIVE":
            found = _counter(node, "GPU", usage_of(node, usage))
            counters.append(found)
            rows.append(
                {
                    "node_id": node.get("node_id"),
                    "node_ip": node.get("node_ip"),
                    "total": found.get("total"),
                    "used": found.get("used"),
                    "available": found.get("available"),
                    "types": _accelerator_types(node),
                }
            )
    gpus = sum_of(counters)
    return {**{f"{part}_gpus": gpus.get(part) for part in _PARTS}, "nodes": rows}


def feasibility_body(
    kind: object,
    num_cpus: object,
    *,
    num_gpus: object = 0.0,
    memory_bytes: object = None,
    replicas: object = 1,
    metadata: object = None,
) -> dict[str, Any]:
    """Return the body of a request for the feasibility of a workload.

    :raises RayAgentInputError: for an invalid argument.
    """
    return {
        "kind": validate_choice(kind, "kind", RESOURCE_KINDS),
        "num_cpus": validate_amount(num_cpus, "num_cpus"),
        "num_gpus": validate_amount(num_gpus, "num_gpus"),
        "memory_bytes": None if memory_bytes is None else validate_bytes(memory_bytes, "memory_bytes"),
        "replicas": validate_count(replicas, "replicas"),
        "metadata": {} if metadata is None else json_object(metadata, "metadata"),
    }


def workload(jobs: Iterable[Row], applications: Iterable[Row]) -> dict[str, int]:
    """Return how many jobs run, and how many replicas Serve has.

    :param jobs: in the form of the jobs API.
    :param applications: in the form of Serve's API.
    """
    found = [app["deployments"] for app in applications if isinstance(app.get("deployments"), dict)]
    replicas = [
        each.get("replicas") for deployments in found for each in deployments.values() if isinstance(each, dict)
    ]
    return {
        "running_jobs": sum(job.get("status") == JobStatus.RUNNING.value for job in jobs),
        "total_serve_replicas": sum(len(each) for each in replicas if isinstance(each, list)),
    }


def replicas_that_fit(nodes: Iterable[Row], required: Mapping[str, float], replicas: int, part: str) -> int:
    """Return how many of ``replicas`` fit on the live nodes, each of them on one node.

    :param nodes: of :func:`cluster_resources`.
    :param required: amounts of one replica by the name of the counter.
    :param part: ``total`` or ``available``.
    """
    needed = {name: amount for name, amount in required.items() if amount}
    return min(
        replicas,
        sum(
            min(
                # Rounded before it is cut off: 0.3 / 0.1 is 2.9999999999999996. The number may be infinite.
                (math.floor(min(round(node[name].get(part, 0) / needed[name], _DIGITS), replicas)) for name in needed),
                default=replicas,
            )
            for node in nodes
            if node["state"] == "ALIVE"
        ),
    )


def sum_of(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of counters; only ``total`` if one of them has no more.

    A counter without ``total``, that of an odd node, counts as 0.
    """
    found = list(counters)
    # A sum over some of the nodes would look like that of the cluster.
    parts = [part for part in _PARTS if part == "total" or all(part in counter for counter in found)]
    return {part: round(sum(counter.get(part, 0) for counter in found), _DIGITS) for part in parts}


def _node(node: Row, usage: Row | None) -> dict[str, Any]:
    types = _accelerator_types(node)
    return {
        "node_id": node.get("node_id"),
        "host_name": node.get("node_name"),
        "ip": node.get("node_ip"),
        "is_head_node": bool(node.get("is_head_node")),
        # The agent's form has no other state.
        "state": "ALIVE" if node.get("state") == "ALIVE" else "DEAD",
        "accelerator_type": types[0] if types else None,
        # An addition: a node can have accelerators of several types.
        "accelerator_types": types,
        "cpu": _counter(node, "CPU", usage),
        "memory": _counter(node, "memory", usage),
        # An addition: the agent's nodes have their GPUs one by one in ``gpus``, which Ray's state API does not tell.
        "gpu": _counter(node, "GPU", usage),
    }


def _counter(node: Row, name: str, usage: Row | None) -> dict[str, float]:
    total = total_of(node, name)
    if total is None:
        return {}
    # Ray reports no usage of what a node does not have. Without these zeros, one node without GPUs would make the sum
    # for the cluster unknown (:func:`sum_of`).
    if not total:
        return {"total": 0.0, "used": 0.0, "available": 0.0}
    used = used_of(usage, name)
    if used is None:
        return {"total": total}
    # Ray lends the CPUs of tasks that wait for others, so that more can be in use than there is.
    return {"total": total, "used": used, "available": max(round(total - used, _DIGITS), 0.0)}


def _accelerator_types(node: Row) -> list[str]:
    """Return the types of a node's accelerators, from the names of its resources."""
    return sorted(name.removeprefix(_TYPE_PREFIX) for name in _totals(node) or {} if name.startswith(_TYPE_PREFIX))
