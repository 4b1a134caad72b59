"""GPU usage of a cluster, computed from Ray's node states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TYPE_PREFIX = "accelerator_type:"


def gpu_status(nodes: Iterable[Mapping[str, Any]], usage: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the GPUs of the live nodes, per node and in total.

    :param nodes: rows of Ray's state API, with ``resources_total``.
    :param usage: ``{node_id: {"GPU": [used, total]}}``, or ``None`` if unknown; ``used`` and ``available`` of nodes
        with GPUs are then ``None``.
    """
    rows = [_node(node, usage) for node in nodes if node.get("state") == "ALIVE"]
    total = sum(row["total"] for row in rows)
    used = None if any(row["used"] is None for row in rows) else sum(row["used"] for row in rows)
    return {
        "total_gpus": total,
        "used_gpus": used,
        "available_gpus": None if used is None else total - used,
        "nodes": rows,
    }


def _node(node: Mapping[str, Any], usage: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    resources: Mapping[str, float] = node.get("resources_total") or {}
    total = float(resources.get("GPU", 0))
    used: float | None = 0.0
    if total:
        pair = (usage or {}).get(node["node_id"], {}).get("GPU")
        used = float(pair[0]) if pair else None
    return {
        "node_id": node["node_id"],
        "node_ip": node.get("node_ip"),
        "total": total,
        "used": used,
        "available": None if used is None else total - used,
        "types": accelerator_types(resources),
    }


def accelerator_types(resources: Iterable[str]) -> list[str]:
    """Return the types of a node's accelerators, from the names of its resources."""
    return sorted(name.removeprefix(_TYPE_PREFIX) for name in resources if name.startswith(_TYPE_PREFIX))
