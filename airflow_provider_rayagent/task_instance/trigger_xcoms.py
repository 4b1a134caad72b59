"""Set XComs of a deferred task from its trigger."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_rayagent.task_instance import resuming
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.text.storable import storable


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
        self._due = time.monotonic() + resuming.seconds_to_resume()

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
        from airflow.sdk.execution_time.xcom import XCom

        await XCom.aset(key, storable(value), **TaskIdentity.of(self._ti).xcom)
