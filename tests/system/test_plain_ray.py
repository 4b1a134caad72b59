"""Jobs followed through Ray's own dashboard, without an agent: in a worker, rescheduled and deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.level import FULL
from tests.system.test_follow import FAILS, LINES, PRINTS, shown

if TYPE_CHECKING:
    from tests.system.support import System, Task

DAGS = ("system_plain", "system_reschedule", "system_deferred") if FULL else ("system_deferred",)


@pytest.fixture(scope="module")
def followed(system: System, plain_ray: str) -> dict[tuple[str, str], tuple[str, Task]]:
    """Jobs, each with the task that follows it, by what the job does and by the DAG."""
    jobs = {"prints": system.submit(PRINTS), "fails": system.submit(FAILS)}
    return {
        (name, dag_id): (job_id, system.follow(job_id, dag_id, conn_id=plain_ray))
        for name, job_id in jobs.items()
        for dag_id in DAGS
    }


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_line_is_in_the_task_log_once_and_in_order(
    system: System, followed: dict[tuple[str, str], tuple[str, Task]], dag_id: str
) -> None:
    job_id, task = followed["prints", dag_id]
    task.assert_ends("success")

    lines = [*task.deferred(), *task.forwarded()]
    assert lines[-len(LINES) :] == shown(LINES)
    assert lines == shown(system.log_of(job_id))
    assert task.xcom()["status"] == "SUCCEEDED"
    assert task.link() == f"{system.agent.ray_address}/#/jobs/{job_id}"


@pytest.mark.parametrize("dag_id", DAGS)
def test_a_failed_job_fails_the_task_with_the_words_of_ray(
    system: System, followed: dict[tuple[str, str], tuple[str, Task]], dag_id: str
) -> None:
    job_id, task = followed["fails", dag_id]
    task.assert_ends("failed")

    assert f"Job {job_id} ended as FAILED" in task.text()
    assert "Job entrypoint command failed with exit code 3" in task.text()
    lines = [*task.deferred(), *task.forwarded()]
    assert "about to fail" in lines
    assert lines == system.log_of(job_id)


@pytest.mark.full
def test_a_job_that_does_not_exist_is_named(system: System, plain_ray: str) -> None:
    task = system.follow("nobody-knows-this-job", "system_missing", conn_id=plain_ray)
    task.assert_ends("up_for_retry")
    assert "Job nobody-knows-this-job still does not exist" in task.text()
