"""Which nodes were lost when a job failed, as far as its other failures and Ray's records of the nodes tell. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.ray_records import Failure
from airflow_provider_rayagent.services.jobs import milliseconds
from airflow_provider_rayagent.services.state_columns import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = Mapping[str, Any]

_BEFORE, _AFTER = 60_000.0, 30_000.0
"""How long before or after the end of a job, in ms, a node was lost that may be a reason. Ray notices the loss late."""
_PREEMPTED = re.compile(r"preempt", re.IGNORECASE)


def lost_nodes(job: Row, nodes: Iterable[Row], failures: Iterable[Failure]) -> list[Failure]:
    """Return the nodes that failures tell to be lost, and those that died unexpectedly when the job failed."""
    named: dict[str, float | None] = {}
    for failure in failures:
        if failure.kind is FailureKind.NODE_DIED and failure.node_id:
            times = [at for at in (named.get(failure.node_id), failure.at) if at is not None]
            named[failure.node_id] = min(times, default=None)
    known = {text_of(node, "node_id"): node for node in nodes}
    lost = [_lost_node(node_id, known.get(node_id, {}), at) for node_id, at in named.items()]
    others = (node_id for node_id, node in known.items() if node_id not in named and _is_loss(node, job))
    return [*lost, *(_lost_node(node_id, known[node_id], None) for node_id in others)]


def with_kind_of_node(failure: Failure, nodes: Mapping[str, Failure]) -> Failure:
    """Return a failure with the kind of the loss of its node, which may have been a preemption."""
    node = nodes.get(failure.node_id)
    return replace(failure, kind=node.kind) if node and failure.kind is FailureKind.NODE_DIED else failure


def _lost_node(node_id: str, node: Row, failed_at: float | None) -> Failure:
    """Return the loss of a node.

    :param node: its record; empty if there is none.
    :param failed_at: when the first task or actor failed with it, if any did.
    """
    message, end = text_of(node, "state_message").strip(), milliseconds(node.get("end_time_ms"))
    is_dead = node.get("state") != "ALIVE"
    return Failure(
        "node",
        node_id,
        "",
        FailureKind.PREEMPTED if is_dead and _PREEMPTED.search(message) else FailureKind.NODE_DIED,
        "",
        message if is_dead else "it did not answer; Ray still lists it as alive",
        message if is_dead else "",
        # Ray notices the loss of a node seconds after that of its processes.
        at=min((each for each in (failed_at, end) if each), default=None),
        node_id=node_id,
    )


def _is_loss(node: Row, job: Row) -> bool:
    """Return whether a dead node was lost when a job failed, and not removed as one that is idle."""
    message, end = text_of(node, "state_message"), milliseconds(node.get("end_time_ms"))
    start, job_end = milliseconds(job.get("start_time")), milliseconds(job.get("end_time"))
    if node.get("state") != "DEAD" or end is None or start is None or job_end is None:
        return False
    if not max(start, job_end - _BEFORE) <= end <= job_end + _AFTER:
        return False
    return not message.startswith("Expected termination") or _PREEMPTED.search(message) is not None
