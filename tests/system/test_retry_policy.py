"""The retry policy in a real Airflow: what the program did fails the task, what the platform did is retried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.support import DATABASE, Task, needs_airflow_3_3

if TYPE_CHECKING:
    from tests.system.support import System

PROGRAM = "RA-101: The program failed: exit code 3."
PLATFORM = "RA-104: Platform failure: the runtime environment could not be set up."


@pytest.mark.each_airflow
@needs_airflow_3_3("has no retry policies")
def test_only_a_failure_of_the_platform_is_retried_and_after_its_own_delay(system: System, plain_ray: str) -> None:
    program = system.start("system_retry_policy", "program", conn_id=plain_ray)
    platform = Task(program.airflow, program.dag_id, program.run_id, "platform")

    assert program.wait() == "failed"
    assert program.instance()["try_number"] == 1
    assert PROGRAM in program.text()
    assert decisions(program) == [("fail", PROGRAM)]

    # Only the policy's delay, instead of Airflow's default of a day, lets the second try come at all.
    platform.wait_for("failed")
    assert platform.instance()["try_number"] == 2
    assert [decisions(platform, number) for number in (1, 2)] == [[("retry", PLATFORM)]] * 2
    assert platform.xcom("job_id").endswith("-2")
    stored = [line for line in system.database.dump(DATABASE).split("\n") if platform.run_id in line]
    assert any(PLATFORM in line and "\tplatform\t" in line for line in stored)


def decisions(task: Task, try_number: int = 1) -> list[tuple[str, str]]:
    """Return Airflow's records about the policy's decisions: the action, and the beginning of the reason."""
    records = [record for record in task.records(try_number) if record["event"] == "Retry policy decision"]
    return [(record["action"], record["reason"].partition(" Job ")[0]) for record in records]
