"""What tasks, actors and jobs that wait for a node require of it, by Ray's records. Pure.

The columns are those of the state API (``util/state/common.py`` in Ray), whose values come from the job's own code as
well: nothing here may fail for a value of another type.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.services.service import JOB_SUPERVISOR, WAITING_STATE
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    Row: TypeAlias = Mapping[str, Any]

Kind = Literal["job", "task", "actor"]

_KINDS: Mapping[str, Kind] = {"NORMAL_TASK": "task", "ACTOR_CREATION_TASK": "actor"}
"""Types of tasks that Ray assigns to nodes. A method of an actor waits for the actor, which has a row of its own."""
SUPERVISOR_PREFIX = "_ray_internal_job_actor_"
"""Begins the name of the actor that starts a job, before the job's id (``JOB_ACTOR_NAME_TEMPLATE`` in
``dashboard/modules/job``)."""
_BUILT_PARTS = ("pip", "uv", "conda", "working_dir", "py_modules", "image_uri", "container", "java_jars", "plugins")
"""Parts of a runtime environment that take time to set up."""
MAX_NAME = 200
"""Characters of a name in a message."""


class Demand(NamedTuple):
    """What a job, a task or an actor requires of a node.

    Mappings are JSON objects as text with sorted names, so that demands can be counted.

    :param name: of the function or class; empty for a job.
    :param job_id: the driver's id in Ray.
    :param needed: amounts by Ray's name of the resource.
    :param selector: labels that a node must have.
    :param environment: the runtime environment, as Ray serializes it.
    :param group_id: the placement group on which it runs.
    """

    kind: Kind
    name: str = ""
    job_id: str = ""
    needed: str = "{}"
    selector: str = "{}"
    environment: str = "{}"
    group_id: str = ""

    def shown_name(self, redact: Callable[[str], str]) -> str:
        """Return the name of the function or class, for a message."""
        return sanitize(self.name.removesuffix(".__init__"), redact, length=MAX_NAME)

    @property
    def resources(self) -> dict[str, float]:
        """Amounts by Ray's name of the resource."""
        return amounts_of(json.loads(self.needed))

    @property
    def labels(self) -> dict[str, str]:
        """The values that labels of a node must have, by the label."""
        return {str(name): value for name, value in json.loads(self.selector).items() if isinstance(value, str)}


def waiting_demands(tasks: Iterable[Row]) -> Counter[Demand]:
    """Return what waits for a node, with the number of tasks or actors that require the same.

    :param tasks: rows of Ray's state API, with their details.
    """
    counts: Counter[Demand] = Counter()
    for task in tasks:
        name = str(task.get("name") or task.get("func_or_class_name") or "")
        kind = _KINDS.get(str(task.get("type") or "NORMAL_TASK"))
        # Of an actor that starts a job, that job waits.
        is_job = name.startswith(f"{JOB_SUPERVISOR}.")
        if task.get("state") == WAITING_STATE and kind is not None and not is_job:
            info = task.get("runtime_env_info")
            counts[
                _demand(task, kind, name, info.get("serialized_runtime_env") if isinstance(info, dict) else None)
            ] += 1
    return counts


def demand_of_job(actor: Row) -> Demand:
    """Return what a job requires that has not started.

    :param actor: the row of its supervisor.
    """
    demand = _demand(actor, "job", "", actor.get("serialized_runtime_env"))
    # Ray starts a job that requires nothing on the head, by this label (``_get_label_selector`` in ``job_manager.py``).
    is_on_head = not demand.resources and demand.labels.keys() == {"ray.io/node-id"}
    return demand._replace(selector="{}") if is_on_head else demand


def supervised_job(actor: Row) -> str | None:
    """Return the id of the job that an actor starts; ``None`` for any other actor."""
    name = str(actor.get("name"))
    return name.removeprefix(SUPERVISOR_PREFIX) if name.startswith(SUPERVISOR_PREFIX) else None


def built_environment(serialized: object) -> Any:
    """Return a runtime environment that takes time to set up, as JSON; ``None`` for any other one."""
    try:
        value = json.loads(serialized) if isinstance(serialized, str) else serialized
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and any(value.get(part) for part in _BUILT_PARTS) else None


def amounts_of(resources: object) -> dict[str, float]:
    """Return the amounts among the resources of a record that are more than 0."""
    found = resources.items() if isinstance(resources, dict) else ()
    amounts = {str(name): amount_of(value) for name, value in found}
    return {name: amount for name, amount in amounts.items() if amount}


def bundles_of(group: Row, live_nodes: Collection[str] = ()) -> list[dict[str, float]]:
    """Return the amounts of each bundle of a placement group, without those that are on one of these nodes.

    :param live_nodes: ids of nodes.
    """
    bundles = group.get("bundles")
    found = [bundle for bundle in bundles if isinstance(bundle, dict)] if isinstance(bundles, list) else []
    return [
        amounts_of(bundle.get("unit_resources")) for bundle in found if str(bundle.get("node_id")) not in live_nodes
    ]


def _demand(row: Row, kind: Kind, name: str, environment: object) -> Demand:
    # As text, since the key of a Counter must be hashable; sorted, since equal values may come in any order.
    needed = _sorted(row.get("required_resources"))
    # With alternatives, a label that no node has is no obstacle.
    fallback = row.get("fallback_strategy")
    selector = "{}" if isinstance(fallback, dict) and fallback.get("options") else _sorted(row.get("label_selector"))
    return Demand(
        kind,
        name,
        str(row.get("job_id") or ""),
        needed,
        selector,
        environment if isinstance(environment, str) else "{}",
        str(row.get("placement_group_id") or ""),
    )


def _sorted(value: object) -> str:
    # Most rows have no labels.
    return json.dumps(storable(value), sort_keys=True) if isinstance(value, dict) and value else "{}"
