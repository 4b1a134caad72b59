"""The commands as processes: what the parser in this process cannot show."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from tests.scripted import Follow, Job, Log, Play, ScriptedAgent
from tests.stack.commands import airflow, environment, finish, start_airflow
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
    assert missing.stderr.startswith("RA-208: There is no Airflow connection 'rayagent_default': create it")


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
    "arguments", [("logs", "j1"), ("logs", "-f", "j1"), ("jobs",), ("jobs", "-o", "plain"), ("doctor",)], ids=str
)
def test_a_reader_that_has_ended_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with ScriptedAgent(Job("one\n")) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        done = airflow("rayagent", *arguments, env=env, stdout=writer)
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_full_disk_is_not_the_failure_of_the_job(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Airflow writes smaller files at its start.
    size = 5_000_000
    output = tmp_path / "output"
    with ScriptedAgent(Job("one line\n" * (size // 8))) as agent, output.open("wb") as file:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            done = airflow("rayagent", "logs", "-f", "j1", env=env, stdout=file.fileno())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == "The output cannot be written: File too large."
    assert output.stat().st_size == size


@pytest.mark.parametrize(
    ("arguments", "redirected"),
    [
        (("logs", "-f", "j1"), "2>/dev/full"),
        (("logs", "-f", "j1"), ">/dev/full"),
        (("logs", "-f", "j1"), ">/dev/full 2>/dev/full"),
        (("logs", "-f", "j1"), "2>&-"),
        (("logs", "-f", "j1"), ">&- 2>&-"),
        (("jobs",), ">&-"),
        (("jobs", "--conn-id", "missing"), "2>/dev/full"),
        (("stop", "j1"), "2>/dev/full"),
    ],
    ids=str,
)
def test_output_that_cannot_be_written_has_its_own_exit_code(
    arguments: tuple[str, ...], redirected: str, tmp_path: Path
) -> None:
    with ScriptedAgent(Job("one\n", status="FAILED")) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        # Otherwise Airflow's parser writes nothing at once, which /dev/full refuses, unlike a full disk.
        env.pop("PYTHONUNBUFFERED", None)
        shell = ("sh", "-c", f'exec "$@" {redirected}', "sh")
        done = airflow("rayagent", *arguments, env=env, through=shell)
    assert done.returncode == 7
    if "2>" not in redirected:
        assert done.stderr.splitlines()[-1].startswith("The output cannot be written: ")


def test_nobody_confirms_a_stop_if_stdin_was_closed(tmp_path: Path) -> None:
    job = Job("one\n", status="RUNNING")
    with ScriptedAgent(job) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        done = airflow("rayagent", "stop", "j1", env=env, through=("sh", "-c", 'exec "$@" <&-', "sh"))
    assert (done.returncode, job.stop_calls) == (2, 0)
    assert "use --yes" in done.stderr


def test_ctrl_c_ends_the_following_and_not_the_job(tmp_path: Path) -> None:
    job = Job("one\n", status="RUNNING", ws=[Play(Log("one\n"), Follow(start="now"))])
    with ScriptedAgent(job) as agent:
        env = environment(tmp_path, rayagent_default={"host": agent.url})
        with start_airflow("rayagent", "logs", "-f", "j1", env=env) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "one\n"
            process.send_signal(signal.SIGINT)
            out, err = finish(process)
        assert job.stop_calls == 0
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "No longer following job j1, which was not stopped."
