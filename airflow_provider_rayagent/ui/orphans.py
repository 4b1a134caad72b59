"""Orphans: jobs that a task of this Airflow has started, and that no try of a task runs, or waits for, any more.

Neither Airflow's database nor Ray can tell alone. A missing task instance may be one of a deleted run, of a renamed
DAG, or of another Airflow. So a job is an orphan only if all says so; any other one is left, with the reason.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models import DagRun, TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select, tuple_

from airflow_provider_rayagent.run.job_ids import derived_id, without_number
from airflow_provider_rayagent.run.job_origin import WAITS
from airflow_provider_rayagent.services.jobs import has_ended, id_of
from airflow_provider_rayagent.task_instance.identity import deployment_namespace
from airflow_provider_rayagent.ui.following_tasks import MAX_FOLLOWERS, find_following_tasks
from airflow_provider_rayagent.ui.task_links import TaskKey, named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Job = Mapping[str, Any]

ENDED_FOR = timedelta(minutes=10)
"""So long the task has been in a final state: a worker that is cut off from Airflow may still go on for a while."""

KEYS_AT_ONCE = 1_000
"""Task instances of one query: databases limit its parameters, of which each has four."""


class UnfinishedJob(NamedTuple):
    """A job that has not ended.

    :param task: the task instance that its metadata names.
    :param left_because: why it is no orphan; empty: it is one.
    """

    job: Job
    task: TaskKey | None
    left_because: str


class _Stored(NamedTuple):
    """What Airflow has stored of a task instance and its run."""

    state: str | None
    ended: datetime | None
    run_state: str


def examine(jobs: Iterable[Job], namespace: str | None) -> list[UnfinishedJob]:
    """Return the jobs that have not ended, in the same order.

    :param namespace: the ``job_namespace`` of the connection.
    """
    unfinished = [(job, named_in(job.get("metadata"))) for job in jobs if not has_ended(job)]
    stored = _stored({task for _, task in unfinished if task is not None})
    following = find_following_tasks(of_any_class=True)
    # Of all connections, since two of them may lead to one Ray.
    followed = {job_id for _, job_id in following.by_argument}
    namespace = namespace or deployment_namespace()
    return [
        UnfinishedJob(
            job,
            task,
            _foreign(job, task, namespace)
            or _needed(task and stored.get(task))
            or ("another task follows it" if id_of(job) in followed else "")
            or ("so many tasks run that not all can be examined" if following.total >= MAX_FOLLOWERS else ""),
        )
        for job, task in unfinished
    ]


def _foreign(job: Job, task: TaskKey | None, namespace: str) -> str:
    """Return why a job may not be one that a task of this Airflow has started and waited for; empty if it is."""
    if task is None:
        return "its metadata names no task"
    if not namespace:
        return "this Airflow has no namespace: enter a Job namespace in the connection"
    job_id = id_of(job)
    if derived_id([str(part) for part in task], namespace) not in (job_id, without_number(job_id)):
        return "its id is not derived from its task and the namespace of this Airflow"
    # A job that its task does not wait for is meant to run on. Named by jobs of this version and newer ones only.
    if job["metadata"].get(WAITS) != str(True):
        return "its task does not say that it waits for it"
    return ""


def _needed(stored: _Stored | None) -> str:
    """Return why a try of its task may need a job; empty if none does."""
    if stored is None:
        return "Airflow has no such task instance"
    if stored.state not in State.finished or stored.run_state not in State.finished_dr_states:
        return "its task or its run has not ended"
    if stored.ended is None or stored.ended > datetime.now(tz=timezone.utc) - ENDED_FOR:
        return f"its task has ended less than {ENDED_FOR.seconds // 60} minutes ago"
    return ""


def _stored(keys: set[TaskKey]) -> dict[TaskKey, _Stored]:
    own = TaskInstance
    columns = (own.dag_id, own.run_id, own.task_id, own.map_index)
    query = select(*columns, own.state, own.end_date, DagRun.state).join(
        DagRun, (DagRun.dag_id == own.dag_id) & (DagRun.run_id == own.run_id)
    )
    wanted = [tuple(key) for key in keys]
    found: dict[TaskKey, _Stored] = {}
    with create_session(scoped=False) as session:
        for start in range(0, len(wanted), KEYS_AT_ONCE):
            part = query.where(tuple_(*columns).in_(wanted[start : start + KEYS_AT_ONCE]))
            found |= {TaskKey(*row[:4]): _Stored(*row[4:]) for row in session.execute(part)}
    return found
