"""Where in a job's log a task has come to, in the task's state store (Airflow 3.3 and newer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

KEY = "rayagent_log_cursor"


def recall_position(context: Context, job_id: str, *, same_try: bool) -> dict[str, Any] | None:
    """Return the position that an earlier look, or an earlier try, has saved; ``None`` if there is none."""
    from airflow_provider_rayagent.render.records import as_position

    store = context.get("task_state_store")
    saved: Any = store.get(KEY) if store is not None else None
    if not isinstance(saved, dict) or saved.get("job_id", job_id) != job_id:
        return None
    position = as_position(saved.get("cursor"))
    if position is not None and "job_id" not in saved:
        # The release that wrote it did not say of which job it is: the text is verified, a result could not be.
        position = {**position, "result": None}
    if saved.get("try_number") == context["ti"].try_number:
        return position
    if same_try or position is None:
        return None
    # max_lines is counted anew in the log of each try.
    return {**position, "shown": 0}


def save_position(context: Context, job_id: str, position: Mapping[str, Any] | None) -> None:
    """Save a position for the next look or the next try."""
    store = context.get("task_state_store")
    if store is not None and position is not None:
        saved: dict[str, Any] = {
            "try_number": context["ti"].try_number,
            "job_id": job_id,
            "cursor": dict(position),
        }
        store.set(KEY, storable(saved))
