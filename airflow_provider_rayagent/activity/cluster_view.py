"""Ray's live nodes, and what is free on them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.cluster_resources import total_of, usage_of, used_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.activity.wait_reasons import WaitReason
    from airflow_provider_rayagent.services.ray_responses import ClusterStatus

    Row = Mapping[str, Any]


@dataclass
class ClusterView:
    """A cluster at one time, for the looks of many jobs.

    :param rows: rows of Ray's state API about all nodes.
    :param status: of the autoscaler.
    :param groups: rows about all placement groups that are not placed.
    :param obstacles: what looks have found that is the same for other jobs, by what these require.
    """

    rows: Sequence[Row]
    status: ClusterStatus
    groups: Sequence[Row] = ()
    obstacles: dict[tuple[str, str], WaitReason | None] = field(default_factory=dict)
    _free: dict[tuple[int, str], float | None] = field(default_factory=dict, init=False)
    _used: dict[str, float | None] = field(default_factory=dict, init=False)

    @cached_property
    def nodes(self) -> list[Row]:
        """The live nodes."""
        return [row for row in self.rows if row.get("state") == "ALIVE"]

    @cached_property
    def _usage(self) -> dict[int, Row | None]:
        return {id(node): usage_of(node, self.status.usage) for node in self.nodes}

    def free(self, node: Row, resource: str) -> float | None:
        """Return how much of a resource is free on one of the live nodes; ``None`` if that is unknown."""
        key = (id(node), resource)
        if key not in self._free:
            total, used = total_of(node, resource), used_of(self._usage[id(node)], resource)
            # Ray reports no usage of what a node does not have.
            self._free[key] = total if not total else None if used is None else max(total - used, 0.0)
        return self._free[key]

    def used(self, resource: str) -> float | None:
        """Return how much of a resource is in use on all nodes; ``None`` if that is unknown."""
        if resource not in self._used:
            found = [used_of(self._usage[id(node)], resource) for node in self.nodes if total_of(node, resource)]
            self._used[resource] = None if None in found else sum(filter(None, found))
        return self._used[resource]

    def address(self, node_id: str) -> str:
        """Return the IP address of a node, or its id if that is unknown."""
        found: Row = next((row for row in self.rows if row.get("node_id") == node_id), {})
        return str(found.get("node_ip") or node_id)

    @property
    def starting(self) -> str:
        """That the autoscaler adds nodes, as the end of a sentence; empty if it does not."""
        count = self.status.starting_nodes
        return f"; the cluster autoscaler is starting {count} node{'s' if count > 1 else ''}" if count else ""
