"""Wait until a cluster has enough free: compare its resources with what is required."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentInputError,
    RayAgentResourcesError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.services.cluster_resources import TOLERANCE, amount_of
from airflow_provider_rayagent.services.jobs import primitive
from airflow_provider_rayagent.services.validation import validate_amount, validate_bytes, validate_text
from airflow_provider_rayagent.text.amounts import shown_amount, unit_of
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.waits.waiting import Wait, WaitOutcome, WaitResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.transport.service_client import ServiceClient

    Row = Mapping[str, Any]
    Amounts = Mapping[str, float | None]

_COUNTERS = {"num_gpus": "gpu", "num_cpus": "cpu", "memory_bytes": "memory"}
_RESOURCES = {"num_gpus": "GPU", "num_cpus": "CPU", "memory_bytes": "memory"}
MAX_NAME = 200
"""Characters of a node's address in a message."""


@dataclass(frozen=True)
class Requirement:
    """What must be free at once; amounts of 0 are not considered.

    :param num_gpus: GPUs.
    :param num_cpus: CPUs.
    :param memory_bytes: bytes of memory.
    :param accelerator_type: type of the nodes' accelerator, such as ``A100``; other nodes are ignored.
    :param on_one_node: whether one node must have all of it; otherwise the sum over the nodes counts.
    :raises RayAgentInputError: if an argument is invalid, or no amount is greater than 0.
    """

    num_gpus: float = 0.0
    num_cpus: float = 0.0
    memory_bytes: int = 0
    accelerator_type: str | None = None
    on_one_node: bool = False

    def __post_init__(self) -> None:
        validate_amount(self.num_gpus, "num_gpus")
        validate_amount(self.num_cpus, "num_cpus")
        validate_bytes(self.memory_bytes, "memory_bytes")
        if self.accelerator_type is not None:
            validate_text(self.accelerator_type, "accelerator_type")
        if not self.amounts:
            raise RayAgentInputError("Set at least one of num_gpus, num_cpus and memory_bytes to more than 0.")

    @property
    def amounts(self) -> dict[str, float]:
        """The amounts that are considered, by the name of their argument."""
        return {name: getattr(self, name) for name in _COUNTERS if getattr(self, name)}


class CapacityOutcome(WaitOutcome):
    """The outcome of waiting for capacity.

    ``summary`` has ``free`` (amounts by argument, ``None`` if unknown), ``node_id`` and ``node_ip`` (of the node with
    ``on_one_node``, otherwise ``None``) and ``message``.
    """

    key = "capacity"
    trigger = "RayAgentCapacityTrigger"
    defaults: ClassVar[Mapping[str, Any]] = {"free": {}, "node_id": None, "node_ip": None, "message": ""}

    @property
    def status(self) -> str:
        """What is free, required and missing."""
        return str(self.summary["message"]) if self.summary else "It is not known yet what the cluster has free."


class _Place(NamedTuple):
    """One node, or the sum over nodes.

    :param node: the node, or ``None``.
    """

    node: Row | None
    amounts: Amounts


@dataclass
class CapacityWait(Wait[CapacityOutcome]):
    """Wait until enough is free; the first arguments are those of :class:`Requirement`.

    :param wait_for_scale_up: wait even for what the cluster's nodes do not have in total.
    """

    num_gpus: float = 0.0
    num_cpus: float = 0.0
    memory_bytes: int = 0
    accelerator_type: str | None = None
    on_one_node: bool = False
    wait_for_scale_up: bool = False
    agent_unreachable_timeout: float = 300.0
    poll_interval: float = 15.0
    outcome_type = CapacityOutcome

    @cached_property
    def required(self) -> Requirement:
        """What must be free.

        :raises RayAgentInputError: if an argument is invalid.
        """
        return Requirement(self.num_gpus, self.num_cpus, self.memory_bytes, self.accelerator_type, self.on_one_node)

    async def _read(self, client: ServiceClient) -> Any:
        self._redact = client.config.redact
        return await client.ask(client.config.service.get_capacity())

    def _judge(self, found: Row, now: float) -> CapacityOutcome:  # noqa: ARG002
        """Judge the cluster's resources, in the form of the agent's ``resources/cluster/``."""
        alive = live_nodes(found)
        if not alive:
            # Just after the start of a cluster, no node is listed.
            return CapacityOutcome(None)
        # What was free then may have been taken since.
        if found.get("stale") is True:
            since = sanitize(str(found.get("collected_at")), self._redact, length=MAX_NAME)
            return CapacityOutcome(None, _unknown(f"What the cluster has free is out of date, of {since}."))
        try:
            free = self._best(_places(found, alive, self.required, "available"))
        except RayAgentUnsupportedError as unsupported:
            return CapacityOutcome(WaitResult.FAILED, None, unsupported)
        summary = self._summary(free)
        if self._missing(free.amounts) == {}:
            return CapacityOutcome(WaitResult.REACHED, summary)
        most = self._best(_places(found, alive, self.required, "total"))
        # An unknown total may be enough.
        if not self.wait_for_scale_up and any(amount is not None for amount in self._missing(most.amounts).values()):
            where = "No node of the cluster has" if self.required.on_one_node else "The cluster does not have"
            error = RayAgentResourcesError(
                f"{where} what is required, free or in use: {self._shown_requirement()}. The most there is: "
                f"{shown_amounts(most.amounts)}.{self._other_accelerators(alive)} If the cluster adds nodes on demand, "
                "set wait_for_scale_up."
            )
            return CapacityOutcome(WaitResult.FAILED, summary, error)
        return CapacityOutcome(None, summary)

    def _missing(self, amounts: Amounts) -> dict[str, float | None]:
        """Return what is missing, ``None`` for an unknown amount."""
        missing: dict[str, float | None] = {}
        for name, required in self.required.amounts.items():
            amount = amounts[name]
            if amount is None:
                missing[name] = None
            elif amount < required - TOLERANCE:
                missing[name] = required - amount
        return missing

    def _best(self, places: Sequence[_Place]) -> _Place:
        """Return the place that has most of what is scarcest there."""

        def share(place: _Place) -> float:
            # An unknown amount counts as nothing, so that a node that is known to have something comes first.
            return min((place.amounts[name] or 0.0) / amount for name, amount in self.required.amounts.items())

        # There is no place if no node has the required accelerator.
        return max(places, key=share, default=_Place(None, dict.fromkeys(self.required.amounts, 0.0)))

    def _summary(self, free: _Place) -> dict[str, Any]:
        node = free.node or {}
        missing = self._missing(free.amounts)
        address = sanitize(str(node.get("ip") or node.get("node_id")), self._redact, length=MAX_NAME)
        where = f" on node {address}" if node else ""
        message = f"Free{where}: {shown_amounts(free.amounts)}. Required: {self._shown_requirement()}. "
        message += f"Missing: {shown_amounts(missing)}." if missing else "Nothing is missing."
        return {
            "free": dict(free.amounts),
            "node_id": primitive(node.get("node_id"), self._redact),
            "node_ip": primitive(node.get("ip"), self._redact),
            "message": message,
        }

    def _other_accelerators(self, alive: Sequence[Row]) -> str:
        """Return the accelerators that there are, as a sentence, if none of them is the required one."""
        found = sorted({kind for node in alive for kind in accelerators_of(node)})
        if self.required.accelerator_type in (None, *found):
            return ""
        shown = ", ".join(sanitize(kind, self._redact, length=MAX_NAME) for kind in found) or "none"
        return f" The accelerators of its nodes: {shown}."

    def _shown_requirement(self) -> str:
        kind = self.required.accelerator_type
        on_nodes = f" with accelerator {sanitize(kind)}" if kind else ""
        return shown_amounts(self.required.amounts) + on_nodes + (" on one node" if self.required.on_one_node else "")


def _shown_amount(name: str, amount: float | None) -> str:
    if amount is not None:
        return shown_amount(_RESOURCES[name], amount)
    unit, size = unit_of(_RESOURCES[name])
    return f"an unknown number of {unit}s" if size == 1 else f"unknown {unit}"


def _places(resources: Row, alive: Sequence[Row], required: Requirement, part: str) -> list[_Place]:
    """Return the nodes, or their sum, with what they have of the required amounts.

    :param part: ``total`` or ``available``.
    :raises RayAgentUnsupportedError: if the agent does not tell the free GPUs of these nodes.
    """
    kind = required.accelerator_type
    nodes = [node for node in alive if kind is None or kind in accelerators_of(node)]
    groups = [[node] for node in nodes] if required.on_one_node else [nodes]
    return [
        _Place(
            group[0] if required.on_one_node else None,
            {name: _amount(resources, alive, group, name, part) for name in required.amounts},
        )
        for group in groups
    ]


def _amount(resources: Row, alive: Sequence[Row], nodes: Sequence[Row], name: str, part: str) -> float | None:
    counters = [_counter(node, name) for node in nodes]
    if name == "num_gpus" and part == "available" and any(map(_has_only_devices, nodes)):
        # An agent lists the GPUs of a node one by one, and counts the free ones for the whole cluster only.
        if any(node not in nodes and _counter(node, name).get("total") for node in alive):
            raise RayAgentUnsupportedError(
                "The agent does not tell how many GPUs are free on each node, only for the whole cluster: do not set "
                "on_one_node or accelerator_type."
            )
        counters = [{"available": (resources.get("gpu") or {}).get("available_gpus", 0)}]
    found = [amount_of(counter.get(part)) for counter in counters]
    known = [amount for amount in found if amount is not None]
    # What is free is at least what is known to be. That there is not enough can only be said if all is known.
    is_enough = len(known) == len(found) or (bool(known) and part == "available")
    return round(sum(known), 4) if is_enough else None


def _unknown(message: str) -> dict[str, Any]:
    return {**CapacityOutcome.defaults, "message": message}


def accelerators_of(node: Row) -> list[str]:
    """Return the types of a node's accelerators: an agent tells one, Ray all."""
    types = node.get("accelerator_types")
    found = types if isinstance(types, list) else [node.get("accelerator_type")]
    return [kind for kind in found if isinstance(kind, str)]


def _counter(node: Row, name: str) -> Row:
    counter = node.get(_COUNTERS[name])
    if counter is None:
        counter = {"total": len(_devices(node)) if name == "num_gpus" else 0, "available": 0}
    # Without its values, an amount is unknown.
    return counter if isinstance(counter, dict) else {}


def _devices(node: Row) -> list[Any]:
    devices = node.get("gpus")
    return devices if isinstance(devices, list) else []


def _has_only_devices(node: Row) -> bool:
    return node.get("gpu") is None and bool(_devices(node))


def gpus_of(node: Row) -> tuple[float | None, float | None]:
    """Return how many GPUs a node has, and how many of them are free; ``None`` if that is unknown."""
    counter = _counter(node, "num_gpus")
    free = None if _has_only_devices(node) else amount_of(counter.get("available"))
    return amount_of(counter.get("total")), free


def shown_free(resources: Row) -> str:
    """Return what a cluster has free of all that it has, as a sentence; an empty string if it lists no node."""
    alive = live_nodes(resources)
    parts = []
    for name, resource in _RESOURCES.items():
        unit, size = unit_of(resource)
        amounts = (_amount(resources, alive, alive, name, part) for part in ("available", "total"))
        free, total = ("unknown" if amount is None else f"{amount / size:.4g}" for amount in amounts)
        parts.append(f"{free} of {total} {unit}{'s' if size == 1 else ''}")
    return f"Free in the cluster: {', '.join(parts)}." if alive else ""


def shown_amounts(amounts: Amounts) -> str:
    """Return amounts by the names of a requirement's arguments, as people write them."""
    return ", ".join(_shown_amount(name, amount) for name, amount in amounts.items())


def live_nodes(resources: Row) -> list[Row]:
    """Return the live nodes of a cluster.

    :param resources: of ``get_capacity`` of a service.
    """
    # The default is that of the agent's client (``NodeResource`` in ``synapse_sdk/clients/agent/models/resources.py``).
    return [node for node in resources["nodes"] if node.get("state", "ALIVE") == "ALIVE"]
