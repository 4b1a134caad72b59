"""Airflow's supervisor of a task or a triggerer, as far as one task instance needs it, in memory."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner

if TYPE_CHECKING:
    from tests.unit.support import TaskInstance

needs_xcoms = pytest.mark.skipif(not hasattr(BaseXCom, "aset"), reason="no XComs for asyncio code in this Airflow")


class Supervisor:
    """What Airflow's own code sends its requests to: the task's XComs, and its state.

    :param ti: the task instance whose XComs these are.
    """

    def __init__(self, ti: TaskInstance) -> None:
        self.ti = ti
        self.state: str | None = "deferred"
        self.saved: list[Any] = []
        """The values of all XComs that were set, in order."""
        self.ended: list[dict[str, Any]] = []
        """The task instances of the run that have ended, as Airflow lists them."""
        self.refused: set[type] = set()
        """Kinds of requests that are answered with an error."""
        self.archived = False
        """Whether the task was cleared and this try's XComs are refused to its trigger, as Airflow 3.4 does."""
        self.dropped = False
        """Whether another task instance has taken this one's place in a loop, as in Airflow 3.4."""
        self.restarting = False
        """Whether Airflow still has this one, as restarting."""
        self.conflict = False
        """Whether Airflow still finds both of them."""
        self.asked: list[str] = []

    @property
    def saved_lines(self) -> int:
        """How many lines are before the position that a trigger saved last."""
        cursors = [value["position"] for value in self.saved if isinstance(value, dict) and value.get("position")]
        return int(cursors[-1]["lines"]) if cursors else 0

    async def asend(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return self.send(message)

    def send(self, message: Any) -> Any:
        kind = type(message)
        self.asked.append(kind.__name__)
        if kind in self.refused:
            raise _error(500, "no luck")
        if self.dropped and kind is comms.GetXCom:
            raise _error(410, "Task Instance not found in the working set; its attempt has been archived")
        if self.archived and kind in (comms.SetXCom, comms.GetXCom):
            raise _error(403, "Task instance is not a live attempt")
        if isinstance(message, comms.SetXCom):
            self._check(message)
            self.saved.append(message.value)
            self.ti.xcoms[message.key] = message.value
        elif isinstance(message, comms.GetXCom):
            self._check(message)
            return comms.XComResult(key=message.key, value=self.ti.xcoms.get(message.key))
        elif isinstance(message, comms.GetTaskStates):
            assert (message.dag_id, message.run_ids) == (self.ti.dag_id, [self.ti.run_id])
            assert (message.task_ids, message.map_index) == ([self.ti.task_id], self.ti.map_index)
            if self.conflict:
                raise _error(409, "Multiple live task instances share a task slot")
            return comms.TaskStatesResult(task_states={self.ti.run_id: {self.ti.task_id: self.state}})
        elif kind.__name__ == "GetPreviousTI":
            assert (message.dag_id, message.task_id, message.state) == (self.ti.dag_id, self.ti.task_id, "restarting")
            found = SimpleNamespace(run_id=self.ti.run_id) if self.restarting else None
            return SimpleNamespace(task_instance=found)
        elif isinstance(message, comms.GetTaskBreadcrumbs):
            assert (message.dag_id, message.run_id) == (self.ti.dag_id, self.ti.run_id)
            return comms.TaskBreadcrumbsResult(breadcrumbs=self.ended)
        return None

    def _check(self, message: comms.SetXCom | comms.GetXCom) -> None:
        asked_for = (message.dag_id, message.task_id, message.run_id, message.map_index)
        assert asked_for == (self.ti.dag_id, self.ti.task_id, self.ti.run_id, self.ti.map_index)


def _error(status: int, message: str) -> AirflowRuntimeError:
    detail = {"status_code": status, "message": message}
    return AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


def supervise(ti: TaskInstance, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """Put a supervisor in the place of Airflow's."""
    supervisor = Supervisor(ti)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
