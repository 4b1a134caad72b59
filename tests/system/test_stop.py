"""The example DAG that stops a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.support import System

SLEEPS = "import time; print('asleep', flush=True); time.sleep(3600)"


def test_a_job_is_stopped_while_another_dag_follows_it_and_stopping_it_again_is_harmless(system: System) -> None:
    job_id = system.submit(SLEEPS)
    follow = system.follow(job_id)
    system.airflow.wait_for_task(follow.dag_id, follow.run_id, follow.task_id, ("running",))
    system.agent.wait(job_id, statuses=("RUNNING",))

    stop = system.stop(job_id)

    stop.assert_ends("success")
    assert stop.xcom() == {"job_id": job_id, "status": "STOPPED", "stop_requested": True}
    follow.assert_ends("failed")
    assert follow.instance()["try_number"] == 1
    assert f"Job {job_id} ended as STOPPED" in follow.text()
    assert follow.forwarded() == system.log_of(job_id)
    assert follow.xcom()["status"] == "STOPPED"

    again = system.stop(job_id)
    again.assert_ends("success")
    assert again.xcom() == {"job_id": job_id, "status": "STOPPED", "stop_requested": False}
    assert f"Job {job_id} has already ended as STOPPED. Nothing to do." in again.text()
