"""Ask Ray why a job waits: one that is PENDING, or one that is RUNNING while its tasks wait. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.demands import built_environment, waiting_demands
from airflow_provider_rayagent.activity.holders import shown_holders
from airflow_provider_rayagent.activity.wait_reasons import WaitReason, reason_of_demand, reason_of_group
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.waits.capacity_wait import shown_free

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.activity.cluster_view import ClusterView
    from airflow_provider_rayagent.activity.demands import Demand
    from airflow_provider_rayagent.activity.shared_records import SharedRecords
    from airflow_provider_rayagent.services.call import Steps

    Row = Mapping[str, Any]
    Redact = Callable[[str], str]

MAX_TASKS = 100
"""Waiting tasks that are read."""
MAX_DEMANDS = 10
"""Placement groups, and kinds of waiting tasks, that are considered; the kinds with the most tasks first."""


def look_at_wait(records: SharedRecords, job_id: str, job: Row, redact: Redact) -> Steps:
    """Return the operation whose result is the :class:`WaitReason` of a job, or ``None``.

    It raises a :class:`RayAgentError` if Ray cannot be asked.
    """
    status = known_status(job)
    if status is JobStatus.PENDING:
        return (yield from _look_at_pending(records, job_id, redact))
    driver_job_id = str(job.get("job_id") or "")
    if status is not JobStatus.RUNNING or not driver_job_id:
        # A program that has not connected to Ray has no tasks.
        return None
    reason: WaitReason | None = yield from _look_at_running(records, driver_job_id, redact)
    if reason is None or reason.is_lasting:
        return reason
    # Tasks that wait while others of their job run are usual: there are more of them than CPUs.
    if (yield records.service.activity_records.running_tasks(driver_job_id, 1)):
        return None
    # Between two tasks, a job that makes progress looks the same for a moment.
    return (yield from _with_holders(records, reason, job_id))._replace(is_momentary=True)


def _look_at_pending(records: SharedRecords, job_id: str, redact: Redact) -> Steps:
    demand: Demand | None = yield from records.demand_of_pending(job_id)
    cluster = yield from records.cluster()
    if cluster is None:
        free = yield from _free_in(records)
        return WaitReason(("job",), f"it has not started. {free}", is_momentary=True) if free else None
    if demand is None:
        return None
    reason = yield from _reason_of(records, demand, "1", cluster, redact)
    return (yield from _with_holders(records, reason, job_id))


def _look_at_running(records: SharedRecords, driver_job_id: str, redact: Redact) -> Steps:
    tasks: Sequence[Row] = yield records.service.activity_records.waiting_tasks(driver_job_id, MAX_TASKS)
    groups: Sequence[Row] = yield from records.pending_groups(driver_job_id)
    # Those of a placement group wait for the group, or for each other.
    demands = [(demand, count) for demand, count in waiting_demands(tasks).most_common() if not demand.group_id]
    if not demands and not groups:
        return None
    least = "at least " if len(tasks) >= MAX_TASKS else ""
    cluster = yield from records.cluster()
    if cluster is None:
        (demand, count), *_ = demands
        return (yield from _reason_of_agent(records, demand.shown_name(redact), f"{least}{count:,}"))
    reasons = [reason_of_group(group, cluster, redact) for group in groups[:MAX_DEMANDS]]
    for demand, count in demands[:MAX_DEMANDS]:
        reasons.append((yield from _reason_of(records, demand, f"{least}{count:,}", cluster, redact)))
    found = [reason for reason in reasons if reason is not None]
    # What lasts comes first: nothing that the job does itself will end it.
    return min(found, key=lambda each: (not each.is_lasting, each.is_momentary), default=None)


def _with_holders(records: SharedRecords, reason: WaitReason | None, job_id: str) -> Steps:
    """Return a reason with the jobs that hold what is scarce."""
    if reason is None or not reason.scarce:
        return reason
    try:
        cluster, held = (yield from records.cluster()), (yield from records.holdings())
    except RayAgentError:
        return reason
    used = {name: cluster.used(name) for name in reason.scarce}
    text = "".join(shown_holders(held, name, amount, job_id) for name, amount in used.items() if amount)
    return reason._replace(text=reason.text + text)


def _reason_of(records: SharedRecords, demand: Demand, count: str, cluster: ClusterView, redact: Redact) -> Steps:
    reason = reason_of_demand(demand, count, cluster, (), redact)
    # All nodes are asked for their environments, so only if these may matter.
    if built_environment(demand.environment) is not None and (reason is None or not reason.is_lasting):
        reason = reason_of_demand(demand, count, cluster, (yield from records.environments()), redact)
    return reason


def _reason_of_agent(records: SharedRecords, name: str, count: str) -> Steps:
    """Return what is known of tasks that wait where the service does not list the resources of the nodes."""
    text = f"{count} of its tasks and actors {'waits' if count == '1' else 'wait'} for a node, such as {name}"
    free = yield from _free_in(records)
    return WaitReason(("waiting", name), f"{text}. {free}".rstrip(" ."))


def _free_in(records: SharedRecords) -> Steps:
    """Return what the cluster has free, without a full stop; an empty string if that is not known."""
    try:
        return shown_free((yield from records.capacity())).rstrip(".")
    except RayAgentError:
        return ""
