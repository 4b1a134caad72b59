"""The commands as processes: what the parser in this process cannot show."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.scripted import Follow, Job, Log, Play, ScriptedAgent
from tests.stack.commands import airflow, environment, start_airflow
from tests.stack.watch import PATIENCE
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from pathlib import Path


def test_a_connection_in_airflows_database_is_found(tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert airflow("db", "migrate", env=env).returncode == 0
    with ScriptedAgent(Job("one\n"), token=TOKEN) as agent:
        fields = ("--conn-type", "rayagent", "--conn-host", agent.url, "--conn-password", TOKEN)
        added = airflow("connections", "add", "stored", *fields, env=env)
        assert added.returncode == 0, added.stderr
        done = airflow("rayagent", "logs", "-f", "j1", "--conn-id", "stored", env=env)
        missing = airflow("rayagent", "jobs", env=env)
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("There is no connection rayagent_default: create it")


def test_log_messages_and_warnings_do_not_mix_with_the_output(tmp_path: Path) -> None:
    # Airflow warns of a secret that is too short to be masked.
    with ScriptedAgent(Job("one\n")) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url, "password": "abc", "extra": {"verify": False}})
        done = airflow("rayagent", "logs", "j1", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_text_can_be_printed_in_any_locale(tmp_path: Path) -> None:
    with ScriptedAgent(Job("é 漢\n")) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        done = airflow("rayagent", "logs", "j1", env=env | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, "\\xe9 \\u6f22\n")


@pytest.mark.parametrize(
    "arguments", [("logs", "j1"), ("logs", "-f", "j1"), ("jobs",), ("jobs", "-o", "plain")], ids=str
)
def test_a_reader_that_ends_early_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    # More than fits into a pipe.
    text = "".join(f"line {number}\n" for number in range(20_000))
    jobs = [Job(text, job_id=f"j{number}", entrypoint="python train.py " * 12) for number in range(1000)]
    with ScriptedAgent(*jobs) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        process = start_airflow(
            "rayagent", *arguments, *(("--limit", "1000") if arguments[0] == "jobs" else ()), env=env
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        words = process.stderr.read()
        process.stderr.close()
        assert process.wait(PATIENCE) == 141
    assert "Traceback" not in words
    assert "BrokenPipe" not in words


def test_ctrl_c_ends_the_following_and_not_the_job(tmp_path: Path) -> None:
    job = Job("one\n", status="RUNNING", ws=[Play(Log("one\n"), Follow(start="now"))])
    with ScriptedAgent(job) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        with start_airflow("rayagent", "logs", "-f", "j1", env=env) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "one\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        assert job.stop_calls == 0
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "No longer following job j1, which was not stopped."
