"""The logs that viewers follow: what is kept, and the bounds of streams."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import pytest
from fastapi import HTTPException

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.messages import JobProgress, MessageFinder
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.ui import shared_logs, streams
from airflow_provider_rayagent.ui.shared_logs import MAX_LINGERING, FollowedLog, FollowedLogs, Reported
from airflow_provider_rayagent.ui.streams import LogResponse, Pace, Slots, events, slots
from airflow_provider_rayagent.ui.user_connections import PageHook
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


def texts(log: FollowedLog, position: int, size: int = 100) -> list[str]:
    return [json.loads(row.json)[1] for row in log.batch(position, size).rows]


class TestLog(FollowedLog):
    """A log whose records a test adds."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__(PageHook("none"), validate_job_id("j1"))
        self.closed = False
        self.lines = 0

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def write(self, *lines: str) -> None:
        """Add lines, and messages in brackets, which are no lines of the log."""
        for line in lines:
            number = None if line.startswith("[") else self.lines
            self.lines += number is not None
            self._add([Record(logging.INFO, line, number is not None, number)])

    def leave_out(self) -> None:
        """Count a line that is not shown, such as a state of a progress bar."""
        self.lines += 1


async def test_a_viewer_gets_what_is_there_in_batches() -> None:
    log = TestLog()
    log.write("a", "b", "c")
    first = log.batch(0, 2)
    assert [row.json for row in first.rows] == ['["info", "a", true]', '["info", "b", true]']
    assert (first.position, first.skipped) == (2, 0)
    assert texts(log, first.position) == ["c"]
    assert texts(log, 3) == []


async def test_only_the_newest_records_are_kept_and_a_slow_viewer_misses_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_logs, "KEPT_RECORDS", 3)
    log = TestLog()
    log.write(*"abcde")
    late = log.batch(1, 10)
    assert (texts(log, 1), late.position, late.skipped) == (["c", "d", "e"], 5, 1)


async def test_the_kept_records_are_bounded_in_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_logs, "MAX_LINE", 50)
    monkeypatch.setattr(shared_logs, "KEPT_CHARS", 150)
    log = TestLog()
    log.write("x" * 30, "y" * 30, "z" * 1_000)
    assert texts(log, 0) == ["y" * 30, "z" * 50 + "… [line cut]"]


def test_a_log_is_followed_in_the_thread_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    async def enter(_: PageHook) -> NoReturn:
        entered.append(threading.current_thread().name)
        raise RayAgentError("There is no such connection.")

    async def run() -> str:
        return await content_of(FollowedLog(PageHook("none"), validate_job_id("j1")))

    monkeypatch.setattr(PageHook, "__aenter__", enter)
    monkeypatch.setattr(streams, "logs", FollowedLogs(linger=0.0))
    assert asyncio.run(run()).endswith('event: end\ndata: "There is no such connection."\n\n')
    assert entered == ["rayagent-page"]


async def test_viewers_share_a_log_which_ends_after_the_last_of_them() -> None:
    logs = FollowedLogs(linger=0.0)
    log = logs.join("j1", TestLog)
    assert logs.join("j1", TestLog) is log
    logs.leave("j1", log)
    await asyncio.sleep(0.01)
    assert logs.join("j1", TestLog) is log
    logs.leave("j1", log)
    logs.leave("j1", log)
    await asyncio.sleep(0.01)
    assert isinstance(log, TestLog)
    assert log.closed
    assert logs.join("j1", TestLog) is not log


async def test_a_log_that_has_ended_is_followed_again_for_a_new_viewer() -> None:
    logs = FollowedLogs(linger=60.0)
    log = logs.join("j1", TestLog)
    log.end = "The job's status cannot be read."
    logs.leave("j1", log)
    assert logs.join("j1", TestLog) is not log


async def test_a_new_viewer_does_not_get_the_failure_that_another_one_looks_at() -> None:
    logs = FollowedLogs(linger=60.0)
    failed = logs.join("j1", TestLog)
    failed.end = "The job's status cannot be read."
    log = logs.join("j1", TestLog)
    assert log is not failed
    assert logs.join("j1", TestLog) is log
    log.end = ""
    # All of it is there.
    assert logs.join("j1", TestLog) is log


async def test_few_logs_are_followed_without_viewers() -> None:
    logs = FollowedLogs(linger=PATIENCE)
    opened = [logs.join(number, TestLog) for number in range(3 * MAX_LINGERING)]
    for number, log in enumerate(opened):
        logs.leave(number, log)
    while len(logs._logs) > MAX_LINGERING:  # noqa: ASYNC110 - no event tells the end of a task that closes a log
        await asyncio.sleep(0)
    assert all(isinstance(log, TestLog) and log.closed for log in opened[MAX_LINGERING:])


def test_a_user_and_all_users_have_a_number_of_streams() -> None:
    free = Slots(per_user=2, total=3)
    free.take("ada")
    free.take("ada")
    with pytest.raises(HTTPException, match="429"):
        free.take("ada")
    free.take("bob")
    with pytest.raises(HTTPException, match="429"):
        free.take("eve")
    free.release("ada")
    free.take("eve")


def test_a_slot_is_free_again_although_the_stream_never_began() -> None:
    async def content() -> AsyncGenerator[str, None]:
        yield "never sent"

    async def fails(*_: object) -> NoReturn:
        raise RuntimeError("the client has gone")

    async def run() -> None:
        slots.take("ada")
        response = LogResponse(content(), "ada")
        with pytest.raises(RuntimeError, match="has gone"):
            await response({"type": "http", "asgi": {"spec_version": "2.4"}}, fails, fails)

    before = slots._open.total()
    asyncio.run(run())
    assert slots._open.total() == before


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
def test_a_stream_that_is_not_read_ends(spec_version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def content() -> AsyncGenerator[str, None]:
        yield "text"

    async def blocks(*_: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        slots.take("ada")
        response = LogResponse(content(), "ada")
        await response({"type": "http", "asgi": {"spec_version": spec_version}}, blocks, blocks)

    monkeypatch.setattr(streams, "STALLED_SECONDS", 0.1)
    before = slots._open.total()
    asyncio.run(run())
    assert slots._open.total() == before


def test_a_stream_is_slowed_down_after_a_second_of_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> None:
        pace = Pace(rate=100.0)
        await pace.spend(90)
        assert slept == []
        await pace.spend(510)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(run())
    [seconds] = slept
    assert 4.0 < seconds <= 5.0


async def content_of(log: FollowedLog, last_event: str = "") -> str:
    """Return all that a stream sends."""

    async def has_left() -> bool:
        return False

    stream = events(("ray", "j1"), lambda: log, last_event, has_left)
    return "".join([event async for event in stream])


async def test_a_stream_ends_after_a_while_and_the_next_one_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(streams, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(streams, "logs", FollowedLogs(linger=0.0))
    log = TestLog()
    monkeypatch.setattr(asyncio, "sleep", pass_time)
    log.write("a", "b")
    first = await content_of(log)
    assert streams.STREAM_SECONDS <= now <= streams.STREAM_SECONDS + streams.MAX_PAUSE
    assert 'data: [["info", "a", true], ["info", "b", true]]' in first
    assert "event: restart" in first
    assert "event: end" not in first
    log.write("c")
    log.end = ""
    second = await content_of(log, f"{log.name}-2")
    assert 'data: [["info", "c", true]]' in second
    assert "event: restart" not in second
    assert second.endswith('event: end\ndata: ""\n\n')


async def test_a_stream_of_another_follower_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "logs", FollowedLogs(linger=0.0))
    log = TestLog()
    log.write("a")
    log.end = "The job does not exist any more."
    for last_event in ("other-1", "", "x", f"{log.name}-x"):
        sent = await content_of(log, last_event)
        assert "event: restart" in sent
        assert '"a"' in sent
        assert sent.endswith('event: end\ndata: "The job does not exist any more."\n\n')


LINES = ("a", "b", "[a message]", "c", "d")


def id_after(lines: tuple[str, ...]) -> str:
    """Return the id of the last event of a process that has sent these lines."""
    log = TestLog()
    log.write(*lines)
    log.end = ""
    return str(re.findall(r"^id: (.*)$", asyncio.run(content_of(log)), re.MULTILINE)[-1])


def lines_sent(log: FollowedLog, last_event: str) -> list[str]:
    """Return what a viewer gets: events without data by their names, and lines."""
    found: list[str] = []
    for kind, data in re.findall(r"^event: (.*)\ndata: (.*)$", asyncio.run(content_of(log, last_event)), re.MULTILINE):
        value = json.loads(data)
        found += [row[1] for row in value] if kind == "records" else [f"{kind} {value}".rstrip()]
    return found


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> TestLog:
    """A log that another process of the API server has begun to follow."""
    monkeypatch.setattr(streams, "logs", FollowedLogs(linger=0.0))
    monkeypatch.setattr(streams, "MIN_PAUSE", 0.001)
    return TestLog()


@pytest.mark.parametrize("seen", range(1, len(LINES) + 1))
def test_a_stream_of_another_process_continues_after_the_last_line(seen: int, process: TestLog) -> None:
    process.write(*LINES)
    process.end = ""
    # A message is sent again if no line follows it: it has no place in the log.
    again = LINES[2:3] if seen == 3 else ()
    assert lines_sent(process, id_after(LINES[:seen])) == [*again, *LINES[seen:], "end"]


def test_a_stream_waits_until_another_process_has_read_what_the_viewer_has(
    process: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_come = list(LINES)

    async def read_on(_: float) -> None:
        if to_come:
            process.write(to_come.pop(0))
        else:
            process.end = ""

    last = id_after(LINES[:4])
    monkeypatch.setattr(asyncio, "sleep", read_on)
    assert lines_sent(process, last) == ["d", "end"]


@pytest.mark.parametrize("lines", [("a", "b", "other", "d"), ("a",), ()])
def test_a_stream_of_another_log_begins_again(lines: tuple[str, ...], process: TestLog) -> None:
    process.write(*lines)
    process.end = ""
    assert lines_sent(process, id_after(("a", "b", "c"))) == ["restart", *lines, "end"]


def test_lines_that_another_process_does_not_keep_are_counted(
    process: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = id_after(("a", "b"))
    monkeypatch.setattr(shared_logs, "KEPT_RECORDS", 2)
    process.write("a", "b", "c", "d", "e", "f")
    process.end = ""
    assert lines_sent(process, last) == ["skipped 2", "e", "f", "end"]


def test_a_state_of_a_progress_bar_that_another_process_does_not_show_is_no_other_log(process: TestLog) -> None:
    process.write("a")
    process.leave_out()
    process.write("c")
    process.end = ""
    assert lines_sent(process, id_after(("a", "bar"))) == ["c", "end"]


async def test_a_viewer_gets_what_the_job_has_reported_each_time_that_it_changes(
    process: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_come: list[str | None] = ['{"links": []}', '{"links": []}', "", None]

    async def report(_: float) -> None:
        if (reported := to_come.pop(0)) is None:
            process.end = ""
        else:
            process.reported = reported

    monkeypatch.setattr(asyncio, "sleep", report)
    sent = await content_of(process)
    assert re.findall(r"^event: reported\ndata: (.*)$", sent, re.MULTILINE) == ['{"links": []}', "null"]


def test_what_a_job_has_reported_is_its_progress_and_its_links() -> None:
    messages = MessageFinder()
    reported = Reported(Redactor(["s3cret"]))
    assert reported.json_of(messages) == ""
    messages.progress = JobProgress(1, 4, "\x1b[2Jepoch 1")
    messages.links["Board s3cret"] = "http://a/s3cret"
    links = [{"name": "Board ***", "url": "http://a/***"}]
    assert json.loads(reported.json_of(messages)) == {
        "progress": {"fraction": 0.25, "text": "25% (1 of 4): \\x1b[2Jepoch 1"},
        "links": links,
    }
    messages.progress = None
    assert json.loads(reported.json_of(messages)) == {"progress": None, "links": links}


class CountingRedactor(Redactor):
    """Counts the texts that it gets."""

    texts = 0

    def __call__(self, text: str) -> str:
        self.texts += 1
        return super().__call__(text)


def test_links_are_described_only_if_they_or_the_secrets_have_changed() -> None:
    messages, redact = MessageFinder(), CountingRedactor(["s3cret"])
    reported = Reported(redact)
    messages.links |= {f"{number}": "http://a/token" for number in range(50)}
    for done in range(20):
        messages.progress = JobProgress(done)
        assert json.loads(reported.json_of(messages))["progress"]["text"] == str(done)
    assert redact.texts == 2 * 50
    redact.add(["token"])
    assert "token" not in reported.json_of(messages)
    messages.links["7"] = "http://b"
    assert json.loads(reported.json_of(messages))["links"][7] == {"name": "7", "url": "http://b"}
