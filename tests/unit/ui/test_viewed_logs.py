"""The logs that users look at: what is kept, where the next answer continues, and the bounds of readers."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException

from airflow_provider_rayagent.render.messages import JobProgress, MessageFinder
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.ui import viewed_logs
from airflow_provider_rayagent.ui.user_connections import PageHook, ViewedService
from airflow_provider_rayagent.ui.viewed_logs import MAX_LOGS_PER_USER, LogReader, LogReaders, Reported, ViewPosition
from tests.scripted import Job, Refuse
from tests.scripted.actions import reached

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import Serve

LINES = ("a", "b", "[a message]", "c", "d")
JOB_ID = validate_job_id("j1")


class Process:
    """A process of the API server that reads a log, whose lines a test writes."""

    def __init__(self, *lines: str) -> None:
        self.reader = LogReader(PageHook("none"), JOB_ID, "ada")
        self._count = 0
        self.write(*lines)

    def write(self, *lines: str) -> None:
        """Add lines, and messages in brackets, which are no lines of the log."""
        for line in lines:
            number = None if line.startswith("[") else self._count
            self._count += number is not None
            asyncio.run(self.reader.write([Record(logging.INFO, line, number is not None, number)]))

    def leave_out(self) -> None:
        """Count a line that is not shown, such as a state of a progress bar."""
        self._count += 1

    def ask(self, after: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.reader.answer(after))
        return answer

    def told(self, after: str = "") -> list[str]:
        """Return what an answer tells: what precedes the lines, and the lines."""
        answer = self.ask(after)
        told = ["restart"] if answer["restart"] else []
        told += [f"skipped {answer['skipped']}"] if answer["skipped"] else []
        return [*told, *(text for _, text, _ in answer["rows"])]


def place_after(*lines: str) -> str:
    """Return the place of a browser that another process has given these lines."""
    return str(Process(*lines).ask()["after"])


def test_a_browser_gets_what_is_there_and_then_what_follows() -> None:
    process = Process("a", "b")
    first = process.ask()
    assert first["rows"] == [["info", "a", True], ["info", "b", True]]
    assert (first["restart"], first["skipped"], first["more"], first["end"]) == (True, 0, False, None)
    assert process.told(first["after"]) == []
    process.write("[a message]", "c")
    second = process.ask(first["after"])
    assert [text for _, text, _ in second["rows"]] == ["[a message]", "c"]
    assert second["restart"] is False


def test_a_message_after_the_last_line_is_sent_once() -> None:
    process = Process("[before]")
    seen = process.ask()["after"]
    assert process.told(seen) == []
    process.write("a", "[after]")
    seen = process.ask(seen)["after"]
    process.write("[later]")
    answer = process.ask(seen)
    assert [text for _, text, _ in answer["rows"]] == ["[later]"]
    assert process.told(answer["after"]) == []


def test_a_long_log_comes_in_parts_and_its_end_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewed_logs, "ANSWER_CHARS", 20)
    process = Process(*"abcdef")
    process.reader.end = ""
    after, told = "", []
    for more in (True, True, False):
        answer = process.ask(after)
        assert (answer["more"], answer["end"]) == (more, None if more else "")
        told += [text for _, text, _ in answer["rows"]]
        after = answer["after"]
    assert told == list("abcdef")


@pytest.mark.parametrize("seen", range(1, len(LINES) + 1))
def test_another_process_continues_after_the_last_line(seen: int) -> None:
    assert Process(*LINES).told(place_after(*LINES[:seen])) == list(LINES[seen:])


def test_a_browser_waits_until_another_process_has_read_what_it_has() -> None:
    after, process = place_after("a", "b", "c", "d"), Process()
    for line in ("a", "b", "c", "d"):
        answer = process.ask(after)
        assert (answer["restart"], answer["rows"], answer["after"]) == (False, [], after)
        process.write(line)
    process.write("e")
    assert process.told(after) == ["e"]


@pytest.mark.parametrize("lines", [("a", "b", "other", "d"), ("a",), ()])
def test_another_log_replaces_what_the_browser_has(lines: tuple[str, ...]) -> None:
    process = Process(*lines)
    process.reader.end = ""
    assert process.told(place_after("a", "b", "c")) == ["restart", *lines]


@pytest.mark.parametrize("after", ["x", "1", "1-2", "1-2-3-4", "a-b-c", "-1-2-3", "1-2-³", "1--3", "9" * 300])
def test_a_place_that_is_none_means_the_beginning(after: str) -> None:
    assert Process("a").told(after) == ["restart", "a"]


def test_lines_that_are_not_kept_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewed_logs, "KEPT_RECORDS", 2)
    process = Process(*"abcdef")
    assert process.told(place_after("a", "b")) == ["skipped 2", "e", "f"]
    assert process.told(place_after(*"abcd")) == ["e", "f"]
    assert process.told() == ["restart", "skipped 4", "e", "f"]


def test_the_kept_records_are_bounded_in_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewed_logs, "MAX_LINE", 50)
    monkeypatch.setattr(viewed_logs, "KEPT_CHARS", 150)
    process = Process("x" * 30, "y" * 30, "z" * 1_000)
    assert process.told()[-2:] == ["y" * 30, "z" * 50 + "… [line cut]"]


def test_a_state_of_a_progress_bar_that_another_process_does_not_show_is_no_other_log() -> None:
    process = Process("a")
    process.leave_out()
    process.write("c")
    assert process.told(place_after("a", "bar")) == ["c"]


def test_a_place_survives_its_text() -> None:
    place = ViewPosition(7, 2**32 - 1, 3)
    assert ViewPosition.parse(str(place)) == place


# Readers


@pytest.fixture
def readers() -> LogReaders:
    return LogReaders()


async def answers_until(readers: LogReaders, done: Callable[[dict[str, Any]], object], **asked: Any) -> dict[str, Any]:
    """Ask again and again, each time after the last answer, until one of them is as it should be; return it."""
    last: dict[str, Any] = {"after": ""}

    async def ask() -> bool:
        nonlocal last
        user = asked.get("user", "ada")
        last = json.loads(await readers.answer(ViewedService("rayagent_default"), JOB_ID, user, last["after"]))
        await asyncio.sleep(0.01)
        return bool(done(last))

    while not await ask():
        pass
    return last


async def test_a_log_is_read_once_for_all_and_no_longer_when_nobody_asks(
    serve: Serve, readers: LogReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(Job("a\n", "RUNNING"))
    for user in ("ada", "bob"):
        await answers_until(readers, lambda answer: answer["rows"], user=user)
    assert agent.max_open_streams["j1"] == 1
    monkeypatch.setattr(viewed_logs, "LINGER_SECONDS", 0.1)
    await agent.reached(lambda: not agent.open_streams["j1"])
    await reached(lambda: not readers._readers)


async def test_a_log_that_has_ended_is_kept_as_long_as_somebody_asks(serve: Serve, readers: LogReaders) -> None:
    agent = serve(Job("a\n"))
    last = await answers_until(readers, lambda answer: answer["end"] is not None)
    assert last["end"] == ""
    requests = len(agent.requests)
    await answers_until(readers, lambda answer: answer["end"] == "")
    assert len(agent.requests) == requests


async def test_a_failure_is_told_for_a_while_and_then_the_log_is_read_again(
    serve: Serve, readers: LogReaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewed_logs, "LINGER_SECONDS", 0.5)
    monkeypatch.setattr(viewed_logs, "UNREACHABLE_SECONDS", 0.1)
    agent = serve(Job("a\n"), answers={"GET jobs/j1/": [Refuse(503, "no luck")]})
    last = await answers_until(readers, lambda answer: answer["end"])
    assert "no luck" in last["end"]
    agent.answers.clear()
    assert await answers_until(readers, lambda answer: answer["end"] == "")


async def test_a_user_and_all_users_have_a_number_of_logs(readers: LogReaders, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_log(number: int, user: str) -> None:
        await readers.answer(ViewedService("none"), validate_job_id(f"j{number}"), user, "")

    monkeypatch.setattr(viewed_logs, "MAX_LOGS", MAX_LOGS_PER_USER + 1)
    for number in range(MAX_LOGS_PER_USER):
        await open_log(number, "ada")
    with pytest.raises(HTTPException, match="close one of them"):
        await open_log(100, "ada")
    # A log that another one reads costs nothing more.
    await open_log(0, "bob")
    await open_log(101, "bob")
    with pytest.raises(HTTPException, match="on this API server"):
        await open_log(102, "eve")
    for task in readers._running:
        task.cancel()


# What a job has reported


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
