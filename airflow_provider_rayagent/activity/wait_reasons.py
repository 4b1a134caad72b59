"""Why a job, its tasks, actors and placement groups wait, by what Ray records of them and of its nodes. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.activity.demands import MAX_NAME, amounts_of, built_environment, bundles_of
from airflow_provider_rayagent.services.cluster_resources import TOLERANCE, total_of
from airflow_provider_rayagent.text.amounts import is_mark, shown_amount, shown_number, shown_resources, shown_unit
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_provider_rayagent.activity.cluster_view import ClusterView
    from airflow_provider_rayagent.activity.demands import Demand

    Redact = Callable[[str], str]
    Row = Mapping[str, Any]
    Bundle = tuple[tuple[str, float], ...]

MAX_PARTS = 3
"""Resources, or kinds of bundles, that one sentence names."""
_CHOICE = re.compile(r"(!?)in\((.*)\)", re.DOTALL)
_SPREAD = "STRICT_SPREAD"
_PACK = "STRICT_PACK"


class WaitReason(NamedTuple):
    """Why something waits.

    :param kind: is equal for a reason that need not be said again, whatever the amounts.
    :param text: the end of a sentence that begins with ``Job … waits:``.
    :param is_lasting: whether it lasts until the cluster gets other nodes.
    :param is_momentary: whether it is usual for some seconds, and worth a word only if it is found again.
    :param scarce: the resources of which not enough is free.
    """

    kind: tuple[object, ...]
    text: str
    is_lasting: bool = False
    is_momentary: bool = False
    scarce: tuple[str, ...] = ()


def reason_of_demand(
    demand: Demand, count: str, cluster: ClusterView, environments: Iterable[Row], redact: Redact
) -> WaitReason | None:
    """Return why a demand is not met; ``None`` if Ray's records do not tell.

    :param count: number of tasks or actors with this demand, such as ``at least 100``.
    :param environments: rows of Ray's state API about runtime environments that are being set up.
    """
    # Just after the start of a cluster, no node is listed.
    if not cluster.nodes:
        return None
    who = (demand.kind, demand.name)
    is_one = count == "1"
    subject = (
        "it" if demand.kind == "job" else f"{count} {demand.kind}{'' if is_one else 's'} {demand.shown_name(redact)}"
    )
    asked = f"{subject} require{'s' if is_one else ''} {_shown_demand(demand)}{'' if is_one else ' each'}"
    key = (demand.needed, demand.selector)
    if key not in cluster.obstacles:
        cluster.obstacles[key] = _obstacle(demand.resources, demand.labels, cluster)
    found = cluster.obstacles[key]
    node_id = _set_up_on(demand.environment, environments)
    if found is not None:
        reason = _of(who, asked, found, cluster)
        if node_id is None or found.is_lasting:
            return reason
        # Ray sets up an environment after it has given the resources, which then are in use; but it may be for another.
        text = f"{reason.text}; an equal runtime environment is being set up on node {cluster.address(node_id)}"
        return reason._replace(text=text, scarce=())
    if node_id is not None:
        owner = "its runtime environment" if demand.kind == "job" else f"the runtime environment of {subject}"
        text = f"{owner} is being set up on node {cluster.address(node_id)}"
        return WaitReason((*who, "environment", node_id), text)
    if demand.resources and cluster.status.usage is None:
        return _of(who, asked, WaitReason(("unknown",), "Ray does not tell what is free"), cluster)
    if demand.kind == "job":
        text = (
            f"{asked}, which a node has free; Ray has not started it" if demand.resources else "Ray has not started it"
        )
        return WaitReason((*who, "free"), text, is_momentary=True)
    return None


def reason_of_group(group: Row, cluster: ClusterView, redact: Redact) -> WaitReason | None:
    """Return why a placement group that is pending is not placed; ``None`` if Ray's records do not tell.

    :param group: a row of Ray's state API, with its details.
    """
    bundles = bundles_of(group, {str(node.get("node_id")) for node in cluster.nodes})
    if not cluster.nodes or not bundles:
        return None
    counts = _counts((bundle, 1) for bundle in bundles)
    # The rest of a group that was placed before is placed beside the others.
    strategy = _strategy(counts, cluster) if group.get("state") == "PENDING" else None
    shown = [f"{count} x {{{shown_resources(dict(bundle))}}}" for bundle, count in counts.most_common()]
    more = f" and {len(shown) - MAX_PARTS} more kinds of bundles" if len(shown) > MAX_PARTS else ""
    name = sanitize(str(group.get("name") or ""), redact, length=MAX_NAME)
    requires = "requires" if group.get("state") == "PENDING" else "lost a node and still requires"
    subject = f"its placement group{f' {name}' if name else ''} {requires} {', '.join(shown[:MAX_PARTS])}{more}"
    needed = Counter[str]()
    for bundle in bundles:
        needed.update(bundle)
    found: WaitReason | None = None
    if strategy == _SPREAD:
        subject += f" on different nodes ({_SPREAD})"
        found = _obstacle_of_spread(counts, cluster)
    elif strategy == _PACK:
        subject += f" on one node ({_PACK})"
        found = _obstacle(needed, {}, cluster)
    if found is None:
        obstacles = (_obstacle(dict(bundle), {}, cluster) for bundle in counts)
        found = next((each for each in obstacles if each is not None), None) or _obstacle_of_sum(needed, cluster)
    if found is None:
        return WaitReason(("group", name), f"{subject}; Ray has not placed it", is_momentary=True)
    return _of(("group", name), subject, found, cluster)


def _obstacle_of_spread(counts: Counter[Bundle], cluster: ClusterView) -> WaitReason | None:
    """Return what prevents that each bundle has a node of its own."""
    bundles = [dict(bundle) for bundle in counts]
    for free in (False, True):
        fitting = sum(any(_fits(node, bundle, cluster, free=free) for bundle in bundles) for node in cluster.nodes)
        if fitting < counts.total():
            text = f"only {fitting} node{'' if fitting == 1 else 's'} can hold one of them{' now' if free else ''}"
            return WaitReason(("nodes", free), text, is_lasting=not free)
    return None


def _of(who: tuple[str, ...], asked: str, found: WaitReason, cluster: ClusterView) -> WaitReason:
    """Return a reason with what it is the reason for."""
    # What has too little free is the same whatever waits for it.
    kind = found.kind if found.scarce else (*who, *found.kind)
    return found._replace(kind=kind, text=f"{asked}; {found.text}{cluster.starting}")


def _shown_demand(demand: Demand) -> str:
    if not demand.labels:
        return shown_resources(demand.resources)
    labels = ", ".join(f"{name}={value}" for name, value in demand.labels.items())
    node = f"a node with the label {labels}"
    return f"{shown_resources(demand.resources)} on {node}" if demand.resources else node


def _obstacle(required: Mapping[str, float], labels: Mapping[str, str], cluster: ClusterView) -> WaitReason | None:
    """Return what prevents that one node has free what is required."""
    nodes = [node for node in cluster.nodes if _has_labels(node, labels)]
    if not nodes:
        return WaitReason(("labels",), "no node has it", is_lasting=True)
    lacking = [
        name for name, amount in required.items() if not any(_has(total_of(node, name), amount) for node in nodes)
    ]
    if lacking:
        text = " or ".join(_most(nodes, name) for name in lacking[:MAX_PARTS])
        return WaitReason(("lacking", *sorted(lacking)), f"no node has {text}", is_lasting=True)
    if not any(_fits(node, required, cluster, free=False) for node in nodes):
        return WaitReason(("together",), "no node has all of that", is_lasting=True)
    if any(_fits(node, required, cluster, free=True) for node in nodes):
        return None
    scarce = [
        name for name, amount in required.items() if not any(_has(cluster.free(node, name), amount) for node in nodes)
    ]
    if not scarce:
        return WaitReason(("together", "free"), "no node has all of that free")
    text = " and ".join(_shown_free(cluster, nodes, name) for name in scarce[:MAX_PARTS])
    return WaitReason(("scarce", *sorted(scarce)), f"free: {text}", scarce=() if labels else tuple(scarce))


def _obstacle_of_sum(needed: Mapping[str, float], cluster: ClusterView) -> WaitReason | None:
    """Return what prevents that all nodes together have free what is required."""
    for is_lasting in (True, False):
        for name, amount in needed.items():
            found = [total_of(node, name) if is_lasting else cluster.free(node, name) for node in cluster.nodes]
            if None in found or (total := sum(filter(None, found))) >= amount - TOLERANCE:
                continue
            if is_lasting:
                return WaitReason(("lacking", name), f"the cluster has {shown_amount(name, total)}", is_lasting=True)
            return WaitReason(("scarce", name), f"free: {_shown_free(cluster, cluster.nodes, name)}", scarce=(name,))
    return None


def _has(have: float | None, amount: float) -> bool:
    # An unknown amount may be enough.
    return have is None or have >= amount - TOLERANCE


def _fits(node: Row, required: Mapping[str, float], cluster: ClusterView, *, free: bool) -> bool:
    return all(
        _has(cluster.free(node, name) if free else total_of(node, name), amount) for name, amount in required.items()
    )


def _most(nodes: Iterable[Row], resource: str) -> str:
    most = max(total_of(node, resource) or 0.0 for node in nodes)
    if most:
        return f"more than {shown_amount(resource, most)}"
    return shown_amount(resource, 0.0) if is_mark(resource) else f"any {shown_unit(resource, '1')}"


def _shown_free(cluster: ClusterView, nodes: Sequence[Row], resource: str) -> str:
    free = [cluster.free(node, resource) or 0.0 for node in nodes]
    totals = [total_of(node, resource) or 0.0 for node in nodes]
    total = shown_number(resource, sum(totals))
    text = f"{shown_number(resource, sum(free))} of {total} {shown_unit(resource, total)}"
    is_spread = sum(free) - max(free) > TOLERANCE
    return f"{text}, at most {shown_number(resource, max(free))} on one node" if is_spread else text


def _has_labels(node: Row, selector: Mapping[str, str]) -> bool:
    """Return whether a node has labels, by the forms of Ray's selectors (``common/scheduling/label_selector.cc``)."""
    labels = node.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    for name, wanted in selector.items():
        if (choice := _CHOICE.fullmatch(wanted)) is not None:
            is_not, values = bool(choice[1]), {value.strip() for value in choice[2].split(",")}
        else:
            is_not, values = wanted.startswith("!"), {wanted.removeprefix("!")}
        if (labels.get(name) in values) is is_not:
            return False
    return True


def _set_up_on(environment: str, rows: Iterable[Row]) -> str | None:
    """Return the id of a node that sets up a runtime environment; ``None`` if no node does.

    :param rows: see :func:`reason_of_demand`.
    """
    wanted = built_environment(environment)
    if wanted is None:
        return None
    return next((str(row.get("node_id")) for row in rows if row.get("runtime_env") == wanted), None)


def _strategy(counts: Counter[Bundle], cluster: ClusterView) -> str | None:
    """Return the strategy of a placement group; ``None`` if it is not that of all that wait with these bundles."""
    demands = [entry for entry in cluster.status.group_demand if isinstance(entry, list) and len(entry) == 2]
    same = [
        entry for entry in demands if isinstance(entry[0], dict) and _counts(_pairs(entry[0].get("bundles"))) == counts
    ]
    found = {str(group.get("strategy")) for group, _ in same}
    # The autoscaler lists the groups some seconds late.
    listed = sum(_counts((bundle, 1) for bundle in bundles_of(group)) == counts for group in cluster.groups)
    is_complete = len(found) == 1 and [count for _, count in same] == [listed]
    return found.pop() if is_complete else None


def _counts(bundles: Iterable[tuple[object, int]]) -> Counter[Bundle]:
    counts: Counter[Bundle] = Counter()
    for resources, count in bundles:
        counts[tuple(sorted(amounts_of(resources).items()))] += count
    return counts


def _pairs(bundles: object) -> Iterator[tuple[object, int]]:
    """Yield the resources and the number of equal bundles."""
    for pair in bundles if isinstance(bundles, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int):
            yield pair[0], pair[1]
