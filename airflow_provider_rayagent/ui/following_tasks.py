"""The task instances that follow jobs at present, found by the arguments of those that have not ended.

Nothing in a job names a task that merely follows it. Task instances that have not ended are few, and Airflow has an
index of their states; a search among all others would read a whole table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models import TaskInstance
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from airflow_provider_rayagent.run.job_ids import without_number
from airflow_provider_rayagent.ui import TASK_CLASSES
from airflow_provider_rayagent.ui.task_jobs import JOB_FIELD, service_of
from airflow_provider_rayagent.ui.task_links import TaskKey, derived_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement

    from airflow_provider_rayagent.ui.user_connections import ViewedService

MAX_FOLLOWERS = 5_000
"""Task instances that are read; further ones are not found."""
UNFINISHED = (
    TaskInstanceState.SCHEDULED,
    TaskInstanceState.QUEUED,
    TaskInstanceState.RUNNING,
    TaskInstanceState.RESTARTING,
    TaskInstanceState.DEFERRED,
    TaskInstanceState.UP_FOR_RETRY,
    TaskInstanceState.UP_FOR_RESCHEDULE,
)


class FollowingTasks(NamedTuple):
    """Task instances that follow jobs.

    :param by_argument: by the service and the job that their arguments name.
    :param without_argument: those that derive the job's id, by the service.
    :param total: how many task instances were read.
    """

    by_argument: Mapping[tuple[ViewedService, str], list[TaskKey]]
    without_argument: Mapping[ViewedService, list[TaskKey]]
    total: int = 0

    def clusters_by_dag(self) -> dict[str, set[ViewedService]]:
        """Return the services with a cluster that task instances name, by the DAG of these."""
        found: dict[str, set[ViewedService]] = {}
        by_service = [
            *self.without_argument.items(),
            *((viewed, keys) for (viewed, _), keys in self.by_argument.items()),
        ]
        for viewed, keys in by_service:
            if viewed.cluster is not None:
                for key in keys:
                    found.setdefault(key.dag_id, set()).add(viewed)
        return found

    def of(self, viewed: ViewedService, job_ids: Iterable[str], namespace: str | None) -> dict[str, list[TaskKey]]:
        """Return the task instances of those jobs that have some.

        :param namespace: the ``job_namespace`` of the connection.
        """
        derived = {
            job_id: key for key in self.without_argument.get(viewed, ()) for job_id in derived_ids(key, namespace)
        }
        found = {}
        for job_id in job_ids:
            keys = self.by_argument.get((viewed, job_id), [])
            key = derived.get(job_id) or derived.get(without_number(job_id))
            if keys or key:
                found[job_id] = [key, *keys] if key else keys
        return found


def find_following_tasks(*, of_any_class: bool = False) -> FollowingTasks:
    """Return the task instances of our operators and sensors of one job that have started and not ended.

    :param of_any_class: return also those of other classes with the same arguments, such as classes derived from ours.
    """
    own, fields = TaskInstance, RenderedTaskInstanceFields
    query = (
        select(own.dag_id, own.run_id, own.task_id, own.map_index, fields.rendered_fields)
        # The columns by which they are joined differ between versions of Airflow.
        .join(own.rendered_task_instance_fields)
        .where(own.state.in_(UNFINISHED), *_has_address())
        .limit(MAX_FOLLOWERS)
    )
    if not of_any_class:
        query = query.where(own.operator.in_(TASK_CLASSES))
    # Not the scoped session of the thread, which other code in this thread may have open.
    with create_session(scoped=False) as session:
        return following_tasks_of((TaskKey(*key), arguments) for *key, arguments in session.execute(query))


def following_tasks_of(rows: Iterable[tuple[TaskKey, Mapping[str, Any]]]) -> FollowingTasks:
    """Return task instances by their job.

    :param rows: each with the values of its template fields as Airflow has stored them.
    """
    by_argument: dict[tuple[ViewedService, str], list[TaskKey]] = {}
    without_argument: dict[ViewedService, list[TaskKey]] = {}
    total = 0
    for key, arguments in rows:
        total += 1
        viewed, job_id = service_of(arguments), arguments.get(JOB_FIELD)
        if viewed is None:
            continue
        if not job_id:
            without_argument.setdefault(viewed, []).append(key)
        elif isinstance(job_id, str):
            by_argument.setdefault((viewed, job_id), []).append(key)
    return FollowingTasks(by_argument, without_argument, total)


def _has_address() -> tuple[ColumnElement[bool], ...]:
    """Return the condition that leaves out the iterations of loops, which have no address in Airflow (3.4)."""
    if not hasattr(TaskInstance, "region_id"):
        return ()
    from airflow.models.task_coordinates import public_map_index_expression

    return (public_map_index_expression(TaskInstance) == TaskInstance.map_index,)
