"""The job of one task instance, from what Airflow has stored about this task instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models import TaskInstance
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import HTTPException
from sqlalchemy import select

from airflow_provider_rayagent.run.job_finder import JOB_ID_KEY
from airflow_provider_rayagent.services.validation import JobId, is_id
from airflow_provider_rayagent.ui.access import team_of_connection, team_of_dag
from airflow_provider_rayagent.ui.task_links import TaskKey, is_derived_from, task_of
from airflow_provider_rayagent.ui.user_connections import ViewedService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

CONN_FIELD, CLUSTER_FIELD, JOB_FIELD = "rayagent_conn_id", "cluster", "job_id"
"""Template fields of the operators and sensors of a job."""
FOLLOWING = ("RayAgentJobSensor", "RayAgentRunPluginOperator")
"""The classes whose task log has the log of any job that is their argument. A submit operator refuses that of another
task, and the log of a stop operator does not have that of the job."""


class StoredJob(NamedTuple):
    """The job of a task instance.

    :param is_proven: whether the task follows this job by its arguments, so that its log has the job's; otherwise
        :func:`belongs_to` must confirm it, since parameters of a run and XComs come from users.
    """

    key: TaskKey
    state: str | None
    viewed: ViewedService
    job_id: JobId
    is_proven: bool


def service_of(fields: Mapping[str, Any]) -> ViewedService | None:
    """Return the service that a task uses, ``None`` if it uses none.

    :param fields: the values of its template fields as Airflow has stored them.
    """
    connection_id, cluster = fields.get(CONN_FIELD), fields.get(CLUSTER_FIELD)
    # A template can be rendered to any type (`render_template_as_native_obj`).
    if not isinstance(connection_id, str):
        return None
    return ViewedService(connection_id, cluster if isinstance(cluster, str) and cluster else None)


def find_task_job(key: TaskKey) -> StoredJob:
    """Return the job of a task instance.

    :raises HTTPException: 404 if there is no such task instance, or if it has no job (yet).
    """
    with create_session(scoped=False) as session:
        ti = session.scalars(
            select(TaskInstance).where(
                TaskInstance.dag_id == key.dag_id,
                TaskInstance.run_id == key.run_id,
                TaskInstance.task_id == key.task_id,
                TaskInstance.map_index == key.map_index,
            )
        ).first()
        if ti is None:
            raise HTTPException(404, "There is no such task instance.")
        fields: Mapping[str, Any] = RenderedTaskInstanceFields.get_templated_fields(ti, session=session) or {}
        viewed, argument = service_of(fields), fields.get(JOB_FIELD)
        if viewed is None:
            raise HTTPException(404, "This task has not run yet, or it is not a task of a Ray job.")
        # Airflow gives a task no connection of another team. It stores the argument all the same.
        if team_of_connection(viewed.connection_id) not in (None, team_of_dag(key.dag_id)):
            raise HTTPException(404, "The connection of this task belongs to another team.")
        # A task that starts several jobs with the same argument gives them numbers.
        job_id = str(_stored_job_id(key, session) or argument or "")
        if not is_id(job_id):
            raise HTTPException(404, "This task has no job yet.")
        return StoredJob(key, ti.state, viewed, JobId(job_id), ti.operator in FOLLOWING and job_id == argument)


def belongs_to(task_job: StoredJob, job: Mapping[str, Any], namespace: str | None) -> bool:
    """Whether those who may read the log of the task instance may see the job.

    It is the task's own, or that of another task of the DAG, such as one that a task stops.
    """
    if task_job.is_proven or is_derived_from(task_job.job_id, task_job.key, namespace):
        return True
    starter = task_of(task_job.job_id, job.get("metadata"), namespace)
    return starter is not None and starter.dag_id == task_job.key.dag_id


def _stored_job_id(key: TaskKey, session: Session) -> str:
    """Return the text in an XCom, in JSON or as it is.

    It is not deserialized, since that imports the class that the value names (``airflow/serialization/serde.py``).
    """
    query: Any = XComModel.get_many(
        run_id=key.run_id, key=JOB_ID_KEY, task_ids=key.task_id, dag_ids=key.dag_id, map_indexes=key.map_index
    )
    found = session.scalars(query).first()
    return found.value.strip('"') if found is not None and isinstance(found.value, str) else ""
