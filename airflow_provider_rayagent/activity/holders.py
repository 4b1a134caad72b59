"""Which jobs hold the resources of a cluster, where Ray lists that completely. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_rayagent.activity.demands import amounts_of, bundles_of, supervised_job
from airflow_provider_rayagent.services.service import JOB_SUPERVISOR
from airflow_provider_rayagent.text.amounts import shown_amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = Mapping[str, Any]

Holdings: TypeAlias = "dict[str, Counter[str]]"
"""By resource, how much of it each job holds."""
MAX_HOLDERS = 3
"""Jobs that are named."""
_TOLERANCE = 1e-3


def shown_holders(held: Holdings, resource: str, used: float, own: str) -> str:
    """Return which jobs hold a resource, as the end of a sentence; empty if Ray does not list all that is in use.

    :param used: how much of it is in use.
    :param own: the job that waits.
    """
    amounts = held.get(resource, Counter())
    # Ray lends the CPUs of tasks that wait for others, and some actors need them for their start only.
    if not amounts or abs(sum(amounts.values()) - used) > _TOLERANCE:
        return ""
    names = [
        f"{'this job itself' if name == own else name} ({shown_amount(resource, amount)})"
        for name, amount in amounts.most_common()
    ]
    more = len(names) - MAX_HOLDERS
    return f", held by {', '.join(names[:MAX_HOLDERS])}{f' and {more} more' if more > 0 else ''}"


def holdings(jobs: Iterable[Row], *, actors: Iterable[Row], tasks: Iterable[Row], groups: Iterable[Row]) -> Holdings:
    """Return what each job holds.

    The arguments are rows of Ray's APIs, with their details.

    :param actors: those that are alive.
    :param tasks: those that run.
    """
    held: Holdings = {}
    names = {str(job.get("job_id")): str(job["submission_id"]) for job in jobs if job.get("submission_id")}
    # A method of an actor uses what the actor holds.
    rows = [*actors, *(task for task in tasks if task.get("type") == "NORMAL_TASK")]
    # What is in a placement group uses what the group holds.
    found = [
        (_holder(row, "job_id", names), row.get("required_resources"))
        for row in rows
        if not row.get("placement_group_id")
    ]
    placed = (group for group in groups if group.get("state") == "CREATED")
    found += [(_holder(group, "creator_job_id", names), bundle) for group in placed for bundle in bundles_of(group)]
    for name, resources in found:
        for resource, amount in amounts_of(resources).items():
            held.setdefault(resource, Counter())[name] += amount  # type: ignore[assignment]
    return held


def _holder(row: Row, column: str, names: Mapping[str, str]) -> str:
    """Return the id of the job to which a record belongs.

    :param names: ids of submitted jobs by those of their drivers.
    """
    if row.get("class_name") == JOB_SUPERVISOR and (job_id := supervised_job(row)) is not None:
        return job_id
    driver = str(row.get(column))
    return names.get(driver, f"driver {driver}")
