"""The task instances that started jobs, found by what the jobs say about themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, tuple_

from airflow_provider_rayagent.task_instance.identity import deployment_namespace
from airflow_provider_rayagent.tasks.job_ids import derived_id
from airflow_provider_rayagent.tasks.job_origin import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DERIVED = re.compile(r"(.*-)?[0-9a-f]{16}(-\d+)?")
"""The form of ids that :func:`derived_id` returns, with the suffix of :func:`numbered`."""

_MAP_INDEX = re.compile(r"-1|\d{1,9}", re.ASCII)


class TaskKey(NamedTuple):
    """The task instance of a job."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def add_task_links(jobs: Sequence[dict[str, Any]], namespace: str | None) -> None:
    """Add ``task``, the task instance of this Airflow that started the job, to each job; ``None`` if there is none.

    :param jobs: in the form of the page.
    :param namespace: the ``job_namespace`` of the connection.
    """
    keys = {job["job_id"]: task_of(job["job_id"], job.get("metadata"), namespace) for job in jobs}
    existing = _existing({key for key in keys.values() if key is not None})
    for job in jobs:
        key = keys[job["job_id"]]
        job["task"] = key._asdict() if key in existing else None


def task_of(job_id: str, metadata: object, namespace: str | None) -> TaskKey | None:
    """Return the task instance that a job's metadata names.

    If the id of the job has the form of a derived one, it must be derived from this task instance: another Airflow may
    have a DAG and a run of the same names.
    """
    key = named_in(metadata)
    if key is None or (_DERIVED.fullmatch(job_id) and not is_derived_from(job_id, key, namespace)):
        return None
    return key


def named_in(metadata: object) -> TaskKey | None:
    """Return the task instance that the metadata of a job names."""
    found = metadata if isinstance(metadata, dict) else {}
    dag_id, run_id, task_id, map_index = (str(found.get(name, "")) for name in IDENTITY)
    if not (dag_id and run_id and task_id and _MAP_INDEX.fullmatch(map_index)):
        return None
    return TaskKey(dag_id, run_id, task_id, int(map_index))


def is_derived_from(job_id: str, key: TaskKey, namespace: str | None) -> bool:
    """Whether a job's id is one of those that are derived from a task instance; see :func:`derived_id`."""
    parts = [str(part) for part in key]
    bases = (derived_id(parts), derived_id(parts, namespace or deployment_namespace()))
    return any(re.fullmatch(rf"{re.escape(base)}(-\d+)?", job_id) for base in bases)


def _existing(keys: Iterable[TaskKey]) -> set[TaskKey]:
    wanted = [tuple(key) for key in keys]
    if not wanted:
        return set()
    columns = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
    with create_session(scoped=False) as session:
        return {TaskKey(*row) for row in session.execute(select(*columns).where(tuple_(*columns).in_(wanted)))}
