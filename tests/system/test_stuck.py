"""A task that does not notice its timeout is ended by Airflow's supervisor (Airflow 3.4), and its job with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.sdk.execution_time import comms

from tests.system.kill_table import Row, record

if TYPE_CHECKING:
    from tests.system.support import System

pytestmark = [
    pytest.mark.each_airflow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(comms, "SetExecutionTimeout"), reason="Airflow 3.4"),
]


def test_a_task_that_its_supervisor_ends_stops_its_job(system: System) -> None:
    task = system.start("system_stuck", "stuck")
    task.wait_for("failed")
    job_id = task.xcom("job_id")
    status = system.agent.wait(job_id)["status"]
    record(Row("supervisor: execution_timeout, then TERM", "submit in worker, stops", status, [], []))
    assert status == "STOPPED", task.text()
    assert f"The task's execution_timeout has expired; stopping job {job_id}." in task.text()
