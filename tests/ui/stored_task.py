"""Task instances in the database of an API server, in states in which a scheduler and a worker would have left them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.stack.api_server import ApiServer

SET = """
import json, sys
from datetime import datetime, timezone
from airflow.models import TaskInstance
from airflow.models.xcom import XComModel
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.utils.session import create_session
from sqlalchemy import select

key, state, fields, job_id, ended, run_state = json.loads(sys.argv[1])
with create_session() as session:
    ti = session.scalars(select(TaskInstance).filter_by(**key)).one()
    ti.state = state
    if ended is not None:
        ti.end_date = datetime.fromtimestamp(ended, tz=timezone.utc)
    if run_state is not None:
        ti.dag_run.state = run_state
    if fields and hasattr(RenderedTaskInstanceFields, "set_for_attempt"):  # Airflow 3.4
        RenderedTaskInstanceFields.set_for_attempt(task_instance_id=ti.id, rendered_fields=fields, session=session)
    elif fields:
        session.merge(RenderedTaskInstanceFields(ti, render_templates=False, rendered_fields=fields))
    if job_id is not None:
        XComModel.set("job_id", job_id, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, serialize=False)
"""


@dataclass(frozen=True)
class StoredTask:
    """A task instance that is not mapped."""

    server: ApiServer
    dag_id: str
    run_id: str
    task_id: str

    def set(
        self,
        state: str | None,
        *,
        xcom: Any = None,
        ended: float | None = None,
        run_state: str | None = None,
        **rendered: Any,
    ) -> None:
        """Store its state, the values of its template fields, and an XCom with the id of its job.

        :param ended: when it ended, in seconds since the epoch.
        :param run_state: the state of its run.
        """
        key = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id}
        arguments = [sys.executable, "-c", SET, json.dumps([key, state, rendered, xcom, ended, run_state])]
        done = subprocess.run(
            arguments, env=self.server.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout

    @property
    def tab(self) -> str:
        """The path of the routes of its tab below that of the page."""
        return f"api/dags/{self.dag_id}/runs/{self.run_id}/tasks/{self.task_id}/-1"

    def as_link(self) -> dict[str, Any]:
        """Return it as the page links to it."""
        return {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id, "map_index": -1}


def stored_task(server: ApiServer, token: str, dag_id: str, task_id: str) -> StoredTask:
    """Return a task instance of a new run of a DAG that Airflow knows."""
    answer = server.request("POST", f"api/v2/dags/{dag_id}/dagRuns", token, json={"logical_date": None})
    assert answer.ok, answer.text
    return StoredTask(server, dag_id, answer.json()["dag_run_id"], task_id)
