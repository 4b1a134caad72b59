"""No secret is in anything that Airflow has written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.support import DATABASE

if TYPE_CHECKING:
    from tests.system.support import System, Task

PASSWORD = "the-password-in-the-jobs-environment"
WRONG = "this-is-not-the-token"
TELLS = "import os; print('the token is', os.environ['AGENT_TOKEN'], flush=True); raise SystemExit({code})"


@pytest.fixture(scope="module")
def ended(system: System) -> Task:
    """A task that has followed a job with a secret of its own."""
    task = system.follow(system.submit("print('quiet')", runtime_env={"env_vars": {"PASSWORD": PASSWORD}}))
    task.assert_ends("success")
    return task


def test_no_secret_is_in_a_task_log_an_xcom_or_the_database(system: System, ended: Task) -> None:
    """Looks through all that the tests before this one have made Airflow write, its own output included."""
    for secret in (system.agent.token, PASSWORD):
        assert places_with(system, secret) == set()


def test_a_token_that_the_job_itself_prints_is_masked(system: System, ended: Task) -> None:
    environment = {"env_vars": {"AGENT_TOKEN": system.agent.token}}
    tasks = [system.follow(system.submit(TELLS.format(code=code), runtime_env=environment)) for code in (0, 1)]

    for task, state in zip(tasks, ("success", "failed"), strict=True):
        task.assert_ends(state)
        assert "the token is ***" in [record["event"] for record in task.records()]
    # Airflow repeats the task logs, unmasked, on the output of what runs the tasks.
    assert places_with(system, system.agent.token) <= {"scheduler.log"}


def test_a_task_with_a_wrong_token_fails_and_does_not_show_it(system: System) -> None:
    system.connect("rayagent_wrong", password=WRONG)
    task = system.follow(system.submit("print('hello')"), "system_plain", conn_id="rayagent_wrong")
    task.assert_ends("failed", "up_for_retry")
    assert "401" in task.text()
    assert WRONG not in task.text()


def places_with(system: System, secret: str) -> set[str]:
    """Return the files of Airflow and of its database that hold a text, and the database's name if a value does."""
    found, logs = set(), 0
    for folder in (system.airflow.home, system.database.data):
        for path in (Path(parent, name) for parent, _folders, names in os.walk(folder) for name in names):
            logs += path.name == "attempt=1.log"
            # PostgreSQL removes files at any time.
            with contextlib.suppress(FileNotFoundError):
                if secret.encode() in path.read_bytes():
                    found.add(str(path.relative_to(folder)))
    assert logs
    dump = system.database.dump(DATABASE)
    assert "rayagent_follow_job" in dump
    return found | ({DATABASE} if secret in dump else set())
