"""The state of a task instance as Airflow has it now."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.task_instance.identity import NOT_MAPPED, TaskIdentity

ACTIVE_STATES = frozenset({"running", "deferred", "up_for_retry", "up_for_reschedule", "scheduled", "queued"})
"""States of a task instance whose job must not be stopped: this try goes on elsewhere, or the next one follows."""
CLEARED = "restarting"
"""The state of a task instance that was cleared while it ran."""
ENDED = "ended"
"""What stands for the state of a task instance of which only that is known."""
FORBIDDEN = 403


def task_state(ti: Any, *, deferred: bool = False) -> str | None:
    """Return the state of a task instance as Airflow has it now, ``None`` if it has none. Blocks.

    In a loop, Airflow gives the state of the newest iteration only (``GET /execution/task-instances/states``), but an
    earlier one may still be going on. There, what Airflow tells of the iteration itself comes first.

    :param ti: the task instance of a worker or a trigger.
    :param deferred: whether it is a trigger's.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    identity = TaskIdentity.of(ti)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=identity.dag_id,
        map_index=identity.map_index,
        task_ids=[identity.task_id],
        run_ids=[identity.run_id],
    )
    newest = next(iter(states.get(identity.run_id, {}).values()), None)
    if identity.region is None:
        return newest
    return _state_of_deferred(identity, newest) if deferred else _state_of_running(identity, newest)


def _state_of_running(identity: TaskIdentity, newest: str | None) -> str | None:
    """Return the state of a task instance in a region that runs in this process.

    Airflow lists those that have ended, with their regions. Any other is running, unless it was cleared.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    for each in RuntimeTaskInstance.get_task_breadcrumbs(dag_id=identity.dag_id, run_id=identity.run_id):
        region = (str(each.get("region_id")), each.get("region_index"))
        if (each.get("task_id"), region) == (identity.task_id, identity.region):
            return str(each["state"])
    return newest if newest == CLEARED else "running"


def _state_of_deferred(identity: TaskIdentity, newest: str | None) -> str | None:
    """Return the state of a task instance in a region whose trigger's ``on_kill`` was called.

    An Airflow that has regions calls it on a user's act only (``TriggerRunner.cancel_triggers``), and lets a trigger
    read the XComs of its try when the task was marked, but not when it was cleared (``_resolve_trigger_token`` in
    ``execution_api/routes/xcoms.py``).
    """
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.xcom import XCom

    try:
        XCom.get_one(key="return_value", **identity.xcom)
    except AirflowRuntimeError as error:
        if not is_of_an_archived_try(error) or identity.map_index != NOT_MAPPED:
            return newest
        # Of no use here: where an earlier iteration was cleared, the newest is that one, and this one is not tried
        # again, so that nobody else would stop its job. (``LoopClearScope.archive_ids`` in ``models/taskinstance.py``)
        return CLEARED
    return ENDED if newest in ACTIVE_STATES else newest


def is_of_an_archived_try(error: Exception) -> bool:
    """Tell whether Airflow refused a trigger's request because its try is no longer the task's current one."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return isinstance(detail, dict) and detail.get("status_code") == FORBIDDEN
