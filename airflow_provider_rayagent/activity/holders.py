"""Which jobs hold the resources of a cluster, where Ray lists that completely. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from airflow_provider_rayagent.activity.demands import amounts_of, bundles_of, supervised_job
from airflow_provider_rayagent.services.service import JOB_SUPERVISOR
from airflow_provider_rayagent.text.amounts import shown_amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Row = Mapping[str, Any]


class Holder(NamedTuple):
    """What holds a resource.

    :param job: its job.
    :param is_command: whether it is the command of the job, and not its tasks, actors and placement groups.
    """

    job: str
    is_command: bool = False


Holdings: TypeAlias = "dict[str, Counter[Holder]]"
"""By resource, how much of it is held by whom."""
MAX_HOLDERS = 3
"""Jobs that are named."""
_TOLERANCE = 1e-3
_RESERVED_BY = {"CPU": "entrypoint_num_cpus", "GPU": "entrypoint_num_gpus", "memory": "entrypoint_memory"}
"""The arguments of a submission by the resource that they reserve for the command of the job."""


def shown_holders(held: Holdings, resource: str, used: float, own: str) -> str:
    """Return which jobs hold a resource, as the end of a sentence; empty if Ray does not list all that is in use.

    :param used: how much of it is in use.
    :param own: the job that waits.
    """
    amounts = held.get(resource, Counter())
    # Ray lends the CPUs of tasks that wait for others, and some actors need them for their start only.
    if not amounts or abs(sum(amounts.values()) - used) > _TOLERANCE:
        return ""
    named: Counter[tuple[str, str]] = Counter()
    for holder, amount in amounts.items():
        named[_described(holder, resource, own)] += amount
    names = [f"{name} ({shown_amount(resource, amount)}{how})" for (name, how), amount in named.most_common()]
    more = len(names) - MAX_HOLDERS
    return f", held by {', '.join(names[:MAX_HOLDERS])}{f' and {more} more' if more > 0 else ''}"


def _described(holder: Holder, resource: str, own: str) -> tuple[str, str]:
    """Return the name of a holder, and how it has got the resource, if that is worth a word."""
    if holder.job != own:
        return holder.job, ""
    if not holder.is_command:
        return "this job itself", ""
    # A frequent mistake: what the command reserves is not for the tasks of its program.
    return "this job's own command", f", reserved by {_RESERVED_BY.get(resource, 'entrypoint_resources')}"


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


def _holder(row: Row, column: str, names: Mapping[str, str]) -> Holder:
    """Return to what of which job a record belongs.

    :param names: ids of submitted jobs by those of their drivers.
    """
    if row.get("class_name") == JOB_SUPERVISOR and (job_id := supervised_job(row)) is not None:
        return Holder(job_id, is_command=True)
    driver = str(row.get(column))
    return Holder(names.get(driver, f"driver {driver}"))
