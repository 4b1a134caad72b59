"""The task instances of jobs: those that started them, by what the jobs say, and those that follow them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select, tuple_

from airflow_provider_rayagent.run.job_ids import derived_id, without_number
from airflow_provider_rayagent.run.job_origin import IDENTITY
from airflow_provider_rayagent.task_instance.identity import deployment_namespace
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_DERIVED = re.compile(r"(.*-)?[0-9a-f]{16}(-\d+)?")
"""The form of ids that :func:`derived_id` returns, with the suffix of :func:`numbered`."""

# From a job's metadata, which anyone can write: nine digits always fit into the 32 bits of the database's column.
_MAP_INDEX = re.compile(r"-1|\d{1,9}", re.ASCII)


class TaskKey(NamedTuple):
    """The task instance of a job."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def add_task_links(
    jobs: Sequence[dict[str, Any]],
    namespace: str | None,
    following: Mapping[str, Sequence[TaskKey]],
    readable: Callable[[set[str]], set[str]],
) -> None:
    """Add ``task`` and ``followed_by`` to each job: the task instances of this Airflow that started it and follow it.

    Each is ``None`` if there is none that the user may read; of several followers, one is shown. A task that started a
    job does not follow it.

    :param jobs: in the form of the page.
    :param namespace: the ``job_namespace`` of the connection.
    :param following: the task instances that follow jobs, by the id of the job.
    :param readable: returns those of some DAGs whose task instances the user may read.
    """
    named = {job["job_id"]: task_of(job["job_id"], job.get("metadata"), namespace) for job in jobs}
    # Only those that exist: metadata can name any DAG, and a link must not lead nowhere.
    existing = _existing({key for key in named.values() if key is not None})
    started = {job_id: key for job_id, key in named.items() if key in existing}
    dag_ids = readable({key.dag_id for keys in (existing, *following.values()) for key in keys})
    for job in jobs:
        own = started.get(job["job_id"])
        others = [key for key in following.get(job["job_id"], ()) if key != own]
        job["task"], job["followed_by"] = (_first_of(dag_ids, keys) for keys in ([own] if own else [], others))


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
    # Else PostgreSQL and its driver refuse the query for all jobs: metadata may have NUL and lone surrogates.
    dag_id, run_id, task_id, map_index = (storable(str(found.get(name, ""))) for name in IDENTITY)
    if not (dag_id and run_id and task_id and _MAP_INDEX.fullmatch(map_index)):
        return None
    return TaskKey(dag_id, run_id, task_id, int(map_index))


def derived_ids(key: TaskKey, namespace: str | None) -> set[str]:
    """Return the ids of the first job of a task instance, see :func:`derived_id`; further ones have a number."""
    parts = [str(part) for part in key]
    # Without a namespace too: an earlier version of this provider had none, and its jobs may still be listed.
    return {derived_id(parts), derived_id(parts, namespace or deployment_namespace())}


def is_derived_from(job_id: str, key: TaskKey, namespace: str | None) -> bool:
    """Whether a job's id is one of those that are derived from a task instance."""
    return not derived_ids(key, namespace).isdisjoint((job_id, without_number(job_id)))


def _first_of(dag_ids: set[str], keys: Iterable[TaskKey]) -> dict[str, Any] | None:
    return next((key._asdict() for key in keys if key.dag_id in dag_ids), None)


def _existing(keys: Iterable[TaskKey]) -> set[TaskKey]:
    wanted = [tuple(key) for key in keys]
    if not wanted:
        return set()
    columns = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
    with create_session(scoped=False) as session:
        return {TaskKey(*row) for row in session.execute(select(*columns).where(tuple_(*columns).in_(wanted)))}
