"""The current state of a task instance in Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.task_instance.identity import NOT_MAPPED, TaskIdentity

ACTIVE_STATES = frozenset({"running", "deferred", "up_for_retry", "up_for_reschedule", "scheduled", "queued"})
"""States in which the job must not be stopped: the try continues in another process, or the next try follows."""
CLEARED = "restarting"
"""State of a task instance that was cleared while running (``airflow/models/taskinstance.py``)."""
NEXT_TRY = "scheduled"
"""Stands for the state of a cleared task instance that Airflow has not scheduled again yet."""
ENDED = "ended"
"""Stands for the state of a task instance that has ended in an unknown state."""
FORBIDDEN = 403
CONFLICT = 409
GONE = 410


def task_state(ti: Any, *, deferred: bool = False) -> str | None:
    """Return the current state of a task instance, ``None`` if it has none. Blocks.

    In a loop, Airflow returns the state of the newest iteration only (``GET /execution/task-instances/states``), while
    an earlier one may still be running. There the state is derived from what Airflow knows about the iteration itself.

    :param ti: the task instance of a worker or a trigger.
    :param deferred: whether the caller is a trigger.
    """
    identity = TaskIdentity.of(ti)
    newest = _newest_state(identity)
    if deferred and (identity.region is not None or newest is None):
        return _state_of_deferred(identity, newest)
    return newest if identity.region is None else _state_of_running(identity, newest)


def _newest_state(identity: TaskIdentity) -> str | None:
    """Return the state of the task instance, in a loop that of the newest iteration.

    In a loop it is ``None`` while an iteration that was dropped and the one that takes its place are both there:
    Airflow then responds with 409 (``_find_superseded_ids`` in ``execution_api/routes/task_instances.py``).
    """
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        states = RuntimeTaskInstance.get_task_states(
            dag_id=identity.dag_id,
            map_index=identity.map_index,
            task_ids=[identity.task_id],
            run_ids=[identity.run_id],
        )
    except AirflowRuntimeError as error:
        if identity.region is None or _status_of(error) != CONFLICT:
            raise
        return None
    # Its one key is the task id, with the map index appended for a mapped task (``get_task_instance_states``).
    return next(iter(states.get(identity.run_id, {}).values()), None)


def _state_of_running(identity: TaskIdentity, newest: str | None) -> str | None:
    """Return the state of a task instance in a region that runs in this process.

    Airflow's breadcrumbs list the instances that have ended, with their regions. Others are running or were cleared.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    for each in RuntimeTaskInstance.get_task_breadcrumbs(dag_id=identity.dag_id, run_id=identity.run_id):
        region = (str(each.get("region_id")), each.get("region_index"))
        if (each.get("task_id"), region) == (identity.task_id, identity.region):
            return str(each["state"])
    return CLEARED if newest == CLEARED or _is_dropped(identity) else "running"


def _is_dropped(identity: TaskIdentity) -> bool:
    """Whether Airflow has dropped this iteration of a loop, since an earlier one was cleared.

    By then another one may run in its place, which is the newest. The dropped one is restarting, and Airflow returns
    the instance in the same place of the loop that has a given state (``get_previous_task_instance`` in
    ``execution_api/routes/task_instances.py``); or its try was archived, which can't read its XComs any more
    (``get_xcom`` in ``execution_api/routes/xcoms.py``).
    """
    from airflow.sdk import TaskInstanceState
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time import comms, task_runner
    from airflow.sdk.execution_time.xcom import XCom

    request = comms.GetPreviousTI(
        dag_id=identity.dag_id,
        task_id=identity.task_id,
        map_index=identity.map_index,
        state=TaskInstanceState.RESTARTING,
    )
    try:
        response = task_runner.SUPERVISOR_COMMS.send(request)
        found = getattr(response, "task_instance", None)
        # Without a logical date, the request looks in all runs of the DAG.
        if found is not None and found.run_id == identity.run_id:
            return True
        # Only the status of the response matters; there need not be such an XCom.
        XCom.get_one(key="return_value", **identity.xcom)
    except AirflowRuntimeError as error:
        return _status_of(error) in (CONFLICT, GONE)
    return False


def _state_of_deferred(identity: TaskIdentity, newest: str | None) -> str | None:
    """Return the state of a task instance whose trigger's ``on_kill`` was called, in a region or without a state.

    Airflow versions with regions call it on user actions only (``TriggerRunner.cancel_triggers``). When a user has
    marked the task, the trigger can still read the XComs of its try; when a user has cleared it, it cannot
    (``_resolve_trigger_token`` in ``execution_api/routes/xcoms.py``). A cleared task has no state until Airflow
    schedules it, as has one whose run was deleted.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.xcom import XCom

    try:
        XCom.get_one(key="return_value", **identity.xcom)
    except AirflowRuntimeError as error:
        if not is_from_archived_try(error):
            return newest
        if identity.region is None or identity.map_index != NOT_MAPPED:
            return newest or NEXT_TRY
        # Do not trust the newest state here. When an earlier iteration is cleared, it becomes the newest and this one
        # is dropped, not retried: nobody else would stop its job. (``LoopClearScope.archive_ids`` in
        # ``models/taskinstance.py``)
        return CLEARED
    # A user has marked this iteration, so an active state is that of another one.
    return ENDED if identity.region is not None and newest in ACTIVE_STATES else newest


def is_from_archived_try(error: Exception) -> bool:
    """Whether Airflow rejected a trigger's request because its try is no longer the current one."""
    return _status_of(error) == FORBIDDEN


def _status_of(error: Exception) -> object:
    """Return the HTTP status of the response of Airflow's API that caused an ``AirflowRuntimeError``."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None
