"""The job's lines in a trigger's task log: each once, in order, in records that read well."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing

from airflow_provider_rayagent.render.records import RECORD_BYTES
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.triggers import position
from airflow_provider_rayagent.triggers.tasklog import MAX_SINGLE_RECORDS
from tests.scripted import (
    DEFAULT,
    Complete,
    ErrorEvent,
    Follow,
    FullText,
    Grow,
    Hold,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Sleep,
    WaitFor,
    every,
)
from tests.unit.support import TOKEN, named, task_log
from tests.unit.triggers.driver import follow, make_trigger

if TYPE_CHECKING:
    from tests.unit.support import Connect, TaskLog

LINES = ["begin", "", "  indented", "\ttab\t", "same", "same", *(f"{n} é漢\U0001f680 %s {{}} %d" for n in range(30))]
TEXT = "\n".join(LINES) + "\n"
MAX_RECORD_BYTES = 16_384


def make_live_job(lines: list[str] = LINES, **overrides: Any) -> Job:
    """Return a job that writes its log line by line, and then ends."""
    writing = [action for line in lines for action in (Grow(f"{line}\n"), Sleep(0.01))]
    return Job(**{"status": "RUNNING", "timeline": [*writing, SetStatus("SUCCEEDED")], **overrides})


def lines_in(log: TaskLog) -> list[str]:
    """Return the lines in the log's records, without what is said of the job."""
    return [line for message in log.messages for line in message.split("\n") if not line.startswith("Job j1 is")]


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
def test_while_it_is_quiet_every_line_is_a_record_of_its_own(
    protocol: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position, "SAVE_SECONDS", 60.0)
    lines = LINES[:MAX_SINGLE_RECORDS]
    with ScriptedAgent(make_live_job(lines)) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger(protocol=protocol))
        assert agent.max_open_streams["j1"] == 1
    assert [message for message in log.messages if not message.startswith("Job j1 is")] == lines
    assert log.warnings == []


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_much_at_once_comes_in_large_records_with_nothing_lost(protocol: str, connect: Connect) -> None:
    lines = [f"{number:06d} {'x' * 92}" for number in range(5_000)]
    play = Play(Follow(every(40_000)), Complete())
    job = Job("".join(f"{line}\n" for line in lines), ws=[play], sse=[play])
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger(protocol=protocol))
    assert lines_in(log) == lines
    sizes = [len(message) for message in log.messages]
    assert max(sizes) <= MAX_RECORD_BYTES
    assert len(sizes) < 2 * sum(sizes) / RECORD_BYTES


def test_records_of_two_levels_are_never_joined(connect: Connect) -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    job = Job(text, "RUNNING", ws=[Play(ErrorEvent("no luck"), Follow(), Complete()), DEFAULT])
    with ScriptedAgent(job) as agent, structlog.testing.capture_logs() as entries:
        connect(agent)
        # A job that ends before its stream is read needs no stream.
        is_told = WaitFor(lambda: any("no luck" in entry["event"] for entry in entries))
        job.timeline = [is_told, SetStatus("SUCCEEDED")]
        follow(make_trigger())
    levels = {entry["log_level"] for entry in entries if "no luck" in entry["event"]}
    assert levels == {logging.getLevelName(logging.WARNING).lower()}
    assert not [entry for entry in entries if "no luck" in entry["event"] and "line " in entry["event"]]


@pytest.mark.parametrize("end", [Reset(), Complete(), ErrorEvent()], ids=named)
@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_no_line_is_lost_or_repeated_where_streams_break(protocol: str, end: Any, connect: Connect) -> None:
    plays = [*(Play(Follow(every(41), stop=stop), end) for stop in (7, 200, 500)), DEFAULT]
    with ScriptedAgent(make_live_job(ws=plays, sse=plays)) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger(protocol=protocol))
    assert [line for line in lines_in(log) if line in LINES] == LINES


def test_without_forwarding_the_log_is_not_even_asked_for(connect: Connect) -> None:
    with ScriptedAgent(make_live_job()) as agent, task_log() as log:
        connect(agent)
        assert follow(make_trigger(forward_logs=False)).job == {"status": "SUCCEEDED"}
        assert {request.route for request in agent.requests} == {"GET jobs/j1/"}
    assert lines_in(log) == []


def test_a_log_that_cannot_be_read_does_not_decide_the_outcome(connect: Connect) -> None:
    refuse = [Refuse(500, f"bad {TOKEN}")]
    with ScriptedAgent(make_live_job(ws=refuse, sse=refuse, full=refuse)) as agent, task_log() as log:
        connect(agent)
        assert follow(make_trigger()).job == {"status": "SUCCEEDED"}
    assert len([warning for warning in log.warnings if "Could not read the end of the job's log" in warning]) == 1
    assert not [message for message in log.messages if TOKEN in message]


@pytest.mark.parametrize(("asked_for", "longest"), [(100, 100), (8_000_000, MAX_LINE_LENGTH)])
def test_a_long_line_comes_in_marked_pieces_that_a_triggerer_can_carry(
    asked_for: int, longest: int, connect: Connect
) -> None:
    long = "".join(chr(0x4E00 + number % 5_000) for number in range(2 * longest + 50))
    with ScriptedAgent(Job(f"a\n{long}\nb\n")) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger(max_line_length=asked_for))
    assert lines_in(log) == [
        "a",
        f"{long[:longest]} [line continues]",
        f"[continued] {long[longest : 2 * longest]} [line continues]",
        f"[continued] {long[2 * longest :]}",
        "b",
    ]


def test_lines_that_airflows_view_would_obey_are_neutralised(connect: Connect) -> None:
    lines = ["::group::Build", "x ::endgroup:: y", "a::b"] * 20
    with ScriptedAgent(Job("\n".join(lines))) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger())
    assert [line.replace("\u200b", "") for line in lines_in(log)] == lines
    assert not [message for message in log.messages if "::group::" in message or "::endgroup::" in message]


def test_the_last_line_is_written_before_the_event_though_it_comes_late(connect: Connect) -> None:
    job = Job("a\n", "SUCCEEDED", ws=[Play(Hold())], full=[Play(FullText(), Grow("late\n")), DEFAULT])
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        follow(make_trigger())
    assert lines_in(log) == ["a", "late"]
