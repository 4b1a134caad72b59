"""No secret is in anything that Airflow has written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.support import System, Task

PASSWORD = "the-password-in-the-jobs-environment"
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
        assert files_with(system.airflow.home, secret) == []


def test_a_token_that_the_job_itself_prints_is_masked(system: System, ended: Task) -> None:
    environment = {"env_vars": {"AGENT_TOKEN": system.agent.token}}
    tasks = [system.follow(system.submit(TELLS.format(code=code), runtime_env=environment)) for code in (0, 1)]

    for task, state in zip(tasks, ("success", "failed"), strict=True):
        task.assert_ends(state)
        assert "the token is ***" in [record["event"] for record in task.records()]
    # Airflow repeats the task logs, unmasked, on the output of its standalone form.
    assert set(files_with(system.airflow.home, system.agent.token)) <= {"standalone.log"}


def files_with(home: Path, secret: str) -> list[str]:
    """Return the files below Airflow's home, its database among them, that hold a text."""
    contents = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert any(path.suffix == ".db" for path in contents)
    assert any(path.name == "attempt=1.log" for path in contents)
    return [str(path.relative_to(home)) for path, content in contents.items() if secret.encode() in content]
