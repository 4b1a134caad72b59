"""With queues of triggerers, the trigger of a task runs in a triggerer of the task's queue (Airflow 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stack.deployment import OTHER_QUEUE

if TYPE_CHECKING:
    from tests.deployed.support import Deployed


def test_a_deferred_task_stays_in_its_queue(deployed: Deployed) -> None:
    [default] = deployed.deployment.triggerers
    other = deployed.deployment.start_triggerer(queue=OTHER_QUEUE)
    try:
        job_id = deployed.submit_stream()
        tasks = {
            machine.job_id: deployed.follow(job_id, dag_id)
            for machine, dag_id in ((default, "deployed_deferred"), (other, "deployed_deferred_other_queue"))
        }
        for triggerer_id, task in tasks.items():
            task.wait_for_lines(1)
            assert task.instance()["trigger"]["triggerer_id"] == triggerer_id
        deployed.release(job_id)
        for task in tasks.values():
            task.assert_ends("success")
    finally:
        other.terminate()
