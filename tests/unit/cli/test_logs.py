"""``logs``, ``logs -f``, ``stop`` and ``clean``."""

from __future__ import annotations

import io
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.cli import logs
from airflow_provider_rayagent.transport.tail_driver import tail_settings
from tests.scripted import (
    DEFAULT,
    Answer,
    Close,
    Down,
    Grow,
    Job,
    Log,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Sleep,
    Step,
    WaitFor,
)
from tests.stack.watch import PATIENCE
from tests.unit.support import HOSTILE_IDS, TOKEN

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Airflow, Ask
    from tests.unit.support import Connect

SERVICES = ("agent", "ray")
SSE = "GET jobs/j1/logs/stream/"
TEXT = "one\n\n  two\tx\nbar 1\rbar 2\r\n" + "same\n" * 30 + f"{TOKEN}\n\x1b[31mred\x1b[0m \x07\nlast"
SHOWN = ["one", "", "  two\tx", "bar 2", *["same"] * 30, "***", "\x1b[31mred\x1b[0m \\x07", "last"]


@pytest.mark.parametrize("arguments", [(), ("-f",)], ids=["so far", "followed"])
@pytest.mark.parametrize("service", SERVICES)
def test_the_log_of_an_ended_job_is_printed(service: Any, arguments: tuple[str, ...], ask: Ask) -> None:
    done = ask(ScriptedAgent(Job(TEXT), service=service), "logs", "j1", *arguments)
    assert done.code == 0
    assert done.out == "".join(f"{line}\n" for line in SHOWN)
    assert done.err.startswith("Job j1 is SUCCEEDED") if arguments else done.err == ""


def test_the_log_so_far_of_a_running_job_is_printed_with_its_unfinished_line(ask: Ask) -> None:
    done = ask(ScriptedAgent(Job("one\nhalf a", status="RUNNING")), "logs", "j1")
    assert done == (0, "one\nhalf a\n", "")


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_printed_of_a_job_that_has_not_started(service: Any, ask: Ask) -> None:
    assert ask(ScriptedAgent(Job(status="PENDING"), service=service), "logs", "j1") == (0, "", "")


@pytest.mark.parametrize("arguments", [("j1",), ("-f", "j1")])
def test_secrets_of_the_job_are_masked(arguments: tuple[str, ...], ask: Ask) -> None:
    details = {
        "runtime_env": {"env_vars": {"PASSWORD": "hunter2-secret"}},
        "metadata": {"airflow_masked_env_vars": '["PASSWORD"]'},
    }
    assert ask(ScriptedAgent(Job("a hunter2-secret\n", details=details)), "logs", *arguments).out == "a ***\n"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("SUCCEEDED", 0, ""),
        ("FAILED", 1, "The program failed: exit code 1."),
        ("STOPPED", 3, "ended as STOPPED"),
        ("EVAPORATED", 1, "Ray has no such status"),
    ],
)
@pytest.mark.parametrize("service", SERVICES)
def test_following_exits_with_the_outcome(service: Any, status: str, code: int, words: str, ask: Ask) -> None:
    job = Job("one\n", status="RUNNING", timeline=[Sleep(0.2), Grow("two\n"), Sleep(0.2), SetStatus(status)])
    if status == "EVAPORATED":
        job = Job("one\ntwo\n", status=status, details={"end_time": job.started + 5})
    done = ask(ScriptedAgent(job, service=service), "logs", "--follow", "j1")
    assert done.code == code
    assert done.out == "one\ntwo\n"
    assert words in done.err


def test_every_line_is_printed_once_despite_broken_streams(connect: Connect, airflow: Airflow) -> None:
    text = "".join(f"line {number}\n" for number in range(200))
    with ScriptedAgent() as agent:
        agent.jobs["j1"] = Job(
            text,
            status="RUNNING",
            ws=[Play(Log(text[:300]), Reset()), Play(Log(text[:700]), Close(1012)), DEFAULT],
            sse=[Play(Log(text[:500]), Reset()), DEFAULT],
            timeline=[WaitFor(lambda: len(agent.of("WS") + agent.of(SSE)) > 2), SetStatus("SUCCEEDED")],
        )
        connect(agent)
        done = airflow("logs", "-f", "j1")
    assert (done.code, done.out) == (0, text)


def test_what_is_said_of_the_log_goes_to_stderr(connect: Connect, airflow: Airflow) -> None:
    job = Job("one\n", full=[Refuse(500)], ws=[Refuse(403)], sse=[Refuse(403)])
    with ScriptedAgent(job) as agent:
        connect(agent)
        done = airflow("logs", "-f", "j1")
        so_far = airflow("logs", "j1")
    assert (done.code, done.out) == (0, "")
    assert "Could not read the end of the job's log" in done.err
    assert (so_far.code, so_far.out) == (5, "")
    assert "answered 500" in so_far.err


@pytest.mark.parametrize("command", [("logs",), ("stop", "-y"), ("jobs",)], ids=str)
@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_job_is_reported(service: Any, command: tuple[str, ...], ask: Ask) -> None:
    done = ask(ScriptedAgent(service=service), *command, "j1")
    assert (done.code, done.out) == (4, "")
    assert "404" in done.err


def test_following_waits_for_a_job_in_the_agents_queue(ask: Ask) -> None:
    answers: dict[str, list[Step]] = {"GET jobs/j1/": [Refuse(404), Refuse(404), DEFAULT]}
    done = ask(ScriptedAgent(Job("one\n"), answers=answers), "logs", "-f", "j1")
    assert (done.code, done.out) == (0, "one\n")
    assert done.err.startswith("Job j1 does not exist yet; waiting up to 60 seconds for it.\n")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts of a job that is followed."""
    times = {"missing_timeout": 0.3, "unreachable_timeout": 0.3, "poll_interval": 0.1}
    monkeypatch.setattr(logs, "tail_settings", partial(tail_settings, **times))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([Refuse(404)], "RA-110: Job j1 does not exist."),
        ([DEFAULT, DEFAULT, Refuse(404)], "RA-110: Job j1 no longer exists."),
    ],
    ids=["unknown", "vanished"],
)
@pytest.mark.usefixtures("impatient")
def test_a_job_that_does_not_come_or_vanishes_ends_the_following(steps: list[Any], words: str, ask: Ask) -> None:
    done = ask(ScriptedAgent(Job("one\n", status="RUNNING"), answers={"GET jobs/j1/": steps}), "logs", "-f", "j1")
    assert done.code == 4
    assert done.err.splitlines()[-1] == words


@pytest.mark.usefixtures("impatient")
def test_an_agent_that_goes_away_ends_the_following(ask: Ask) -> None:
    done = ask(
        ScriptedAgent(Job("one\n", status="RUNNING", ws=[Play(Log("one\n"), Down(PATIENCE))])), "logs", "-f", "j1"
    )
    assert done.code == 5
    assert done.err.splitlines()[-1].startswith("RA-201: Nothing listens at ")


@pytest.mark.parametrize("service", SERVICES)
def test_a_job_is_stopped(service: Any, connect: Connect, airflow: Airflow) -> None:
    job = Job(status="RUNNING")
    with ScriptedAgent(job, service=service) as agent:
        connect(agent, extra={"service": service})
        done = airflow("stop", "--yes", "j1")
        assert job.stop_calls == 1
    assert done.code == 0
    assert done.err.splitlines()[-1] == "Requested the stop of job j1."


@pytest.mark.parametrize(
    ("answer", "code", "calls", "words"),
    [
        ("y\n", 0, 1, "Requested the stop of job j1."),
        ("n\n", 1, 0, "Cancelled."),
        ("", 2, 0, "RA-601: Nobody can confirm it, since stdin has ended: use --yes."),
    ],
)
def test_a_stop_is_to_be_confirmed(
    answer: str, code: int, calls: int, words: str, connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(status="RUNNING")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    with ScriptedAgent(job) as agent:
        connect(agent)
        done = airflow("stop", "j1")
        assert job.stop_calls == calls
    assert done.code == code
    assert "Stop job j1? (y/n)" in done.out
    assert done.err.startswith("Job j1 is RUNNING, ")
    assert done.err.splitlines()[-1] == words


@pytest.mark.parametrize(
    ("polls", "step"),
    [
        (["SUCCEEDED"], DEFAULT),
        (["RUNNING", "SUCCEEDED"], Answer(200, {"stopped": False})),
        (["RUNNING", "SUCCEEDED"], Refuse(400, "has ended")),
    ],
    ids=["before", "false", "400"],
)
def test_a_job_that_has_ended_is_not_stopped(polls: list[str], step: Step, connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(Job(status=polls[0], polls=polls), answers={"POST jobs/j1/stop/": [step]}) as agent:
        connect(agent)
        done = airflow("stop", "-y", "j1")
        assert len(agent.of("POST jobs/j1/stop/")) == len(polls) - 1
    assert done.code == 0
    assert done.err.splitlines()[-1] == "Job j1 has already ended as SUCCEEDED."


def test_a_job_that_the_service_does_not_stop_is_told(ask: Ask) -> None:
    answers: Any = {"POST jobs/j1/stop/": [Answer(200, {"stopped": False})]}
    done = ask(ScriptedAgent(Job(status="RUNNING"), answers=answers), "stop", "-y", "j1")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "Job j1 was not stopped; its status is RUNNING."


@pytest.mark.parametrize(
    ("answer", "code", "left", "words"),
    [
        ("y\n", 0, ["new"], "Deleted the records of 1 jobs."),
        ("n\n", 1, ["new", "old"], "Cancelled."),
        ("", 2, ["new", "old"], "RA-601: Nobody can confirm it, since stdin has ended: use --yes."),
    ],
)
def test_a_deletion_of_records_is_to_be_confirmed(
    answer: str,
    code: int,
    left: list[str],
    words: str,
    connect: Connect,
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    now = int(time.time() * 1000)
    jobs = (Job(job_id=name, ended=now - days * 86_400_000) for name, days in (("old", 31), ("new", 29)))
    with ScriptedAgent(*jobs, service="ray") as agent:
        connect(agent, extra={"service": "ray"})
        done = airflow("clean", "--older-than", "30")
        assert sorted(agent.jobs) == left
    assert done.code == code
    assert "all jobs that ended more than 30 days ago, whoever submitted them? (y/n)" in done.out
    assert done.err.splitlines()[-1].endswith(words)


@pytest.mark.parametrize("command", [("logs",), ("logs", "-f"), ("stop", "-y"), ("jobs",), ("doctor", "--job-id")])
@pytest.mark.parametrize("job_id", [each for each in HOSTILE_IDS if isinstance(each, str) and each.strip()])
def test_an_invalid_id_is_refused_before_anything_is_sent(
    job_id: str, command: tuple[str, ...], connect: Connect, airflow: Airflow
) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        done = airflow(*command, job_id)
        assert agent.requests == []
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("RA-601: The job id ")
