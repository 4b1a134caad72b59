"""Push the XComs of a task, from its worker or its trigger."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.task_instance import resume_delay
from airflow_provider_rayagent.task_instance.current_state import is_from_archived_try
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.text.xcom_keys import key_problem


def push_xcom(ti: Any, key: str, value: Any) -> None:
    """Push an XCom from a worker; Airflow, or a backend for XComs, may raise any error.

    :raises RayAgentInputError: if the key is invalid.
    """
    ti.xcom_push(key=_checked(key), value=storable(value))


def try_push_xcom(ti: Any, key: str, value: Any, log: Any) -> None:
    """Push an XCom from a worker, or log why not: no backend for XComs decides the outcome of a task."""
    try:
        push_xcom(ti, key, value)
    except Exception as error:  # noqa: BLE001 - Airflow's, or any of a backend
        if not is_from_archived_try(error):
            log.warning(coded(Code.INVALID_MESSAGE, "Failed to push the XCom %s: %s"), key, shown_error(error))


def try_pull_xcom(ti: Any, key: str, log: Any) -> Any:
    """Return an XCom of the task instance itself in a worker; if that fails, log why and return ``None``."""
    try:
        return TaskIdentity.of(ti).pull(ti, key)
    except Exception as error:  # noqa: BLE001 - Airflow's, or any of a backend
        log.warning(coded(Code.POSITION_NOT_SAVED, "Failed to read the XCom %s: %s"), key, shown_error(error))
        return None


async def push_xcom_from_trigger(ti: Any, key: str, value: Any) -> None:
    """Push an XCom from a trigger (Airflow 3.3); Airflow, or a backend for XComs, may raise any error.

    :raises RayAgentInputError: if the key is invalid.
    """
    from airflow.sdk.execution_time.xcom import XCom

    await XCom.aset(_checked(key), storable(value), **TaskIdentity.of(ti).xcom)


def _checked(key: str) -> str:
    problem = key_problem(key)
    if problem:
        raise RayAgentInputError(f"The XCom is not pushed: {problem}.", code=Code.INVALID_MESSAGE)
    return key


class TriggerXComs:
    """The XComs of a trigger's task instance.

    :param ti: the task instance; without one (``dag.test()``) none can be set.
    """

    def __init__(self, ti: Any) -> None:
        from airflow.sdk.execution_time.xcom import XCom

        # Before Airflow 3.3 there is no asyncio API for XComs.
        self._ti: Any = ti if hasattr(XCom, "aset") else None
        # Until its process has ended, the worker that has deferred the task pushes the links that it knows
        # (``finalize`` in ``airflow/sdk/execution_time/task_runner.py``), in place of newer ones.
        self._due = time.monotonic() + resume_delay.seconds_to_resume()

    @property
    def can_be_set(self) -> bool:
        """Whether this Airflow lets triggers set XComs at all."""
        return self._ti is not None

    @property
    def is_due(self) -> bool:
        """Whether they can be set now, without a worker replacing them."""
        return self._ti is not None and time.monotonic() >= self._due

    async def set(self, key: str, value: Any) -> None:
        """Set an XCom; Airflow, or a backend for XComs, may raise any error."""
        await push_xcom_from_trigger(self._ti, key, value)
