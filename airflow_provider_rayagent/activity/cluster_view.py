"""Ray's live nodes, and what is free on them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.cluster_resources import total_of, usage_of, used_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.services.ray_responses import ClusterStatus

    Row = Mapping[str, Any]


@dataclass
class ClusterView:
    """A cluster at one time, for the looks of many jobs.

    :param rows: rows of Ray's state API about all nodes.
    :param status: of the autoscaler.
    :param groups: rows about all placement groups that are not placed.
    :param kept: what looks have found that is the same for other jobs.
    """

    rows: Sequence[Row]
    status: ClusterStatus
    groups: Sequence[Row] = ()
    kept: dict[object, Any] = field(default_factory=dict)

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
        if key not in self.kept:
            total, used = total_of(node, resource), used_of(self._usage[id(node)], resource)
            # Ray reports no usage of what a node does not have.
            self.kept[key] = total if not total else None if used is None else max(total - used, 0.0)
        found: float | None = self.kept[key]
        return found

    def used(self, resource: str) -> float | None:
        """Return how much of a resource is in use on all nodes; ``None`` if that is unknown."""
        key = ("used", resource)
        if key not in self.kept:
            found = [used_of(self._usage[id(node)], resource) for node in self.nodes if total_of(node, resource)]
            self.kept[key] = None if None in found else sum(filter(None, found))
        used: float | None = self.kept[key]
        return used

    def address(self, node_id: str) -> str:
        """Return the IP address of a node, or its id if that is unknown."""
        found: Row = next((row for row in self.rows if row.get("node_id") == node_id), {})
        return str(found.get("node_ip") or node_id)

    @property
    def starting(self) -> str:
        """That the autoscaler adds nodes, as the end of a sentence; empty if it does not."""
        count = self.status.starting_nodes
        return f"; the cluster autoscaler is starting {count} node{'s' if count > 1 else ''}" if count else ""
