"""Resources of a cluster, in the form of the agent's ``resources/cluster/``, computed from Ray's node states. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.services.service import RESOURCE_KINDS
from airflow_provider_rayagent.services.validation import (
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

# ``api/cluster_status`` has the names of resources in camel case, the state API as they are.
_USAGE_NAMES = {"object_store_memory": "objectStoreMemory"}
FIELDS = (
    *("collected_at", "stale", "cpu", "memory", "object_store", "gpu", "node_counts", "nodes"),
    *("running_jobs", "total_serve_replicas"),
)
"""The fields of the agent's ``resources/cluster/``."""
_PARTS = ("total", "used", "available")
_TYPE_PREFIX = "accelerator_type:"
_DIGITS = 4
"""Ray counts resources in units of 0.0001 (``raylet/scheduling/fixed_point.h``)."""


def cluster_resources(nodes: Sequence[Row], usage: Mapping[str, Row] | None, now: datetime) -> dict[str, Any]:
    """Return the resources of a cluster by kind and by node, dead nodes included.

    A counter has ``total``, ``used`` and ``available``; only ``total`` if Ray does not report the usage. GPUs are those
    that Ray assigns to jobs: how busy they are, and their memory, is unknown.

    :param nodes: rows of Ray's state API, with ``resources_total``.
    :param usage: ``{node_id or IP address: {resource: [used, total]}}``, or ``None`` if unknown.
    """
    rows = [_node(node, _usage_of(node, usage)) for node in nodes]
    alive = [row for row in rows if row["state"] == "ALIVE"]
    gpus = sum_of(row["gpu"] for row in alive)
    # The agent's API has whole numbers here, but a Ray task can take a part of a GPU.
    summary = {"total_gpus": math.floor(gpus["total"])}
    if "available" in gpus:
        summary["available_gpus"] = math.floor(gpus["available"])
    # In the agent's form only the cluster has an object store, not the node.
    stores = [
        _counter(node, "object_store_memory", _usage_of(node, usage)) for node in nodes if node.get("state") == "ALIVE"
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


def _usage_of(node: Row, usage: Mapping[str, Row] | None) -> Row | None:
    # With an autoscaler's configuration, Ray has the nodes' IP addresses there instead of their ids
    # (``update_load_metrics`` in ``autoscaler/_private/monitor.py``).
    usage = usage or {}
    return usage.get(node["node_id"]) or usage.get(str(node.get("node_ip")))


def gpu_status(nodes: Iterable[Row], usage: Mapping[str, Row] | None) -> dict[str, Any]:
    """Return the GPUs of the live nodes, per node and in total; what is in use and free is ``None`` if unknown.

    :param nodes: rows of Ray's state API, with ``resources_total``.
    :param usage: see :func:`cluster_resources`.
    """
    rows = []
    for node in nodes:
        if node.get("state") == "ALIVE":
            found = _counter(node, "GPU", _usage_of(node, usage))
            rows.append(
                {
                    "node_id": node["node_id"],
                    "node_ip": node.get("node_ip"),
                    "total": found["total"],
                    "used": found.get("used"),
                    "available": found.get("available"),
                    "types": _accelerator_types(node),
                }
            )
    gpus = sum_of({part: row[part] for part in _PARTS if row[part] is not None} for row in rows)
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
    deployments = [each for app in applications for each in (app.get("deployments") or {}).values()]
    return {
        "running_jobs": sum(job.get("status") == JobStatus.RUNNING.value for job in jobs),
        "total_serve_replicas": sum(len(each.get("replicas") or ()) for each in deployments if isinstance(each, dict)),
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
                # Rounded before it is cut off: 0.3 / 0.1 is 2.9999999999999996.
                (math.floor(round(node[name].get(part, 0) / needed[name], _DIGITS)) for name in needed),
                default=replicas,
            )
            for node in nodes
            if node["state"] == "ALIVE"
        ),
    )


def sum_of(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of counters; only ``total`` if one of them has no more."""
    found = list(counters)
    # A sum over some of the nodes would look like that of the cluster.
    parts = [part for part in _PARTS if all(part in counter for counter in found)]
    return {part: round(sum(counter[part] for counter in found), _DIGITS) for part in parts}


def _node(node: Row, usage: Row | None) -> dict[str, Any]:
    types = _accelerator_types(node)
    return {
        "node_id": node["node_id"],
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
    total = float((node.get("resources_total") or {}).get(name, 0))
    # Ray reports no usage of what a node does not have. Without these zeros, one node without GPUs would make the sum
    # for the cluster unknown (:func:`sum_of`).
    if not total:
        return {"total": 0.0, "used": 0.0, "available": 0.0}
    pair = (usage or {}).get(_USAGE_NAMES.get(name, name))
    if not pair:
        return {"total": total}
    used = float(pair[0])
    return {"total": total, "used": used, "available": round(total - used, _DIGITS)}


def _accelerator_types(node: Row) -> list[str]:
    """Return the types of a node's accelerators, from the names of its resources."""
    names = node.get("resources_total") or {}
    return sorted(name.removeprefix(_TYPE_PREFIX) for name in names if name.startswith(_TYPE_PREFIX))
