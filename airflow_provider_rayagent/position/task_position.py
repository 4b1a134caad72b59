"""Save a task's position in the job's log to its task state store (Airflow 3.3 and newer)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_rayagent.task_instance.task_state_store import TaskStateStore
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_rayagent.tail.cursor import LogPosition

KEY = "rayagent_log_position"

log = logging.getLogger(__name__)


def recall_position(context: Context, job_id: str, cluster: str | None) -> LogPosition | None:
    """Return the position that an earlier process of this try has saved, ``None`` if there is none."""
    from airflow_provider_rayagent.tail.cursor import as_position

    saved = TaskStateStore(context).get(KEY)
    job = (job_id, cluster, context["ti"].try_number)
    # A task may have stored anything.
    if not isinstance(saved, dict) or tuple(map(saved.get, ("job_id", "cluster", "try_number"))) != job:
        return None
    return as_position(saved.get("position"))


def save_position(context: Context, job_id: str, cluster: str | None, position: LogPosition | None) -> None:
    """Save a position for the next process of this try."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    if position is None:
        return
    saved = {"try_number": context["ti"].try_number, "job_id": job_id, "cluster": cluster, "position": dict(position)}
    try:
        TaskStateStore(context).set(KEY, saved)
    except AirflowRuntimeError as error:
        # The job's status alone decides the outcome of the task.
        log.warning(
            coded(
                Code.POSITION_NOT_SAVED,
                "Failed to save the position in the log of job %s; lines will be repeated if the task runs again: %s",
            ),
            job_id,
            shown_error(error),
        )
