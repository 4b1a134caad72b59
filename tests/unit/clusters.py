"""A cluster with one node without GPUs, one with four, and a dead one."""

from __future__ import annotations

from typing import Any

from tests.scripted import Answer

GIB = 2.0**30
NODES: list[dict[str, Any]] = [
    {
        "node_id": "a" * 56,
        "node_ip": "10.0.0.1",
        "node_name": "head",
        "is_head_node": True,
        "state": "ALIVE",
        "resources_total": {"CPU": 8.0, "memory": 32 * GIB, "object_store_memory": 4 * GIB},
    },
    {
        "node_id": "b" * 56,
        "node_ip": "10.0.0.2",
        "node_name": "worker",
        "is_head_node": False,
        "state": "ALIVE",
        "resources_total": {"CPU": 16.0, "GPU": 4.0, "memory": 64 * GIB, "accelerator_type:A100": 1.0},
    },
    {"node_id": "c" * 56, "node_ip": "10.0.0.3", "state": "DEAD", "resources_total": {"GPU": 8.0}},
]
USED: dict[str, dict[str, float]] = {
    "a" * 56: {"CPU": 1.0, "object_store_memory": GIB},
    "b" * 56: {"CPU": 0.1, "GPU": 1.5},
}


def rows(*found: dict[str, Any]) -> Answer:
    """Return an answer of Ray's state API."""
    return Answer(200, {"data": {"result": {"result": list(found), "total": len(found)}}})
