"""Save a task's position in the job's log to its task state store (Airflow 3.3 and newer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.task_instance.stored_state import StoredState

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_rayagent.tail.cursor import LogPosition

KEY = "rayagent_log_cursor"


def recall_position(context: Context, job_id: str, *, same_try: bool) -> LogPosition | None:
    """Return the position that an earlier poke or try has saved, ``None`` if there is none."""
    from airflow_provider_rayagent.tail.cursor import as_position

    saved = StoredState(context).get(KEY)
    if not isinstance(saved, dict) or saved.get("job_id", job_id) != job_id:
        return None
    position = as_position(saved.get("cursor"))
    if position is not None and "job_id" not in saved:
        # Written by a version that did not save the job id. The cursor verifies the text; a result cannot be verified.
        position = {**position, "result": None}
    if saved.get("try_number") == context["ti"].try_number:
        return position
    if same_try or position is None:
        return None
    # Each try has a log of its own, so max_lines counts from zero.
    return {**position, "shown": 0}


def save_position(context: Context, job_id: str, position: LogPosition | None) -> None:
    """Save a position for the next poke or try."""
    if position is not None:
        saved = {"try_number": context["ti"].try_number, "job_id": job_id, "cursor": dict(position)}
        StoredState(context).set(KEY, saved)
