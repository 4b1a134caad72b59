"""Single rules of the tail, one history each."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.stream.events import COMPLETE, OTHER, Event
from airflow_provider_rayagent.tail import commands as do
from airflow_provider_rayagent.tail.commands import Command, TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import Notice, lines_in
from airflow_provider_rayagent.tail.machine import Tail


class Story:
    """A tail, a clock, and what the tail has told so far."""

    def __init__(self, *, deadline: float | None = None, **settings: Any) -> None:
        self.now = 0.0
        self.tail = Tail(TailSettings(**settings), deadline=deadline, jitter=lambda: 0.5)
        self.lines: list[str] = []
        self.said: list[str] = []

    def next(self, *, status: str = "RUNNING") -> Command:
        """Return the next command that is not a question for the status, which is answered; waits pass."""
        while True:
            command = self.tail.next(self.now)
            if isinstance(command, do.AskStatus):
                self.tail.status_received(self.now, status, terminal=status == "SUCCEEDED")
            elif isinstance(command, do.Wait):
                self.now += command.seconds
            else:
                self._take()
                return command

    def until(self, kind: type[Command], *, status: str = "RUNNING") -> Any:
        """Return the first command of a kind; streams are refused, the whole log too, reads bring nothing."""
        for _ in range(1000):
            command = self.next(status=status)
            if isinstance(command, kind):
                return command
            if isinstance(command, do.OpenStream):
                self.tail.stream_failed(self.now)
            elif isinstance(command, do.OpenWholeLog):
                self.tail.whole_log_failed(self.now, "Refused.")
            elif isinstance(command, do.ReadStream):
                self.now += max(command.seconds, 0.01)
                self.tail.stream_idle(self.now)
        raise AssertionError(f"never {kind}")

    def stream(self, *events: Event, status: str = "RUNNING") -> None:
        """Open a stream and have it bring events."""
        self.until(do.OpenStream, status=status)
        self.tail.stream_opened(self.now)
        self.hear(*events)

    def hear(self, *events: Event) -> None:
        self.tail.stream_received(self.now, events)
        self._take()

    def text(self, text: str, *, status: str = "RUNNING") -> None:
        """Answer the next request for the whole log."""
        self.until(do.OpenWholeLog, status=status)
        self.tail.whole_log_opened(self.now)
        self.tail.whole_log_received(self.now, text)
        if isinstance(self.next(status=status), do.ReadWholeLog):
            self.tail.whole_log_ended(self.now)
        self._take()

    def _take(self) -> None:
        for item in self.tail.take():
            if isinstance(item, Notice):
                self.said.append(item.text)
            self.lines += lines_in([item])


def log(*messages: str) -> list[Event]:
    return [Event("log", message) for message in messages]


def test_lines_come_as_the_stream_brings_them_once_the_whole_log_told_that_it_is_the_log() -> None:
    story = Story()
    story.stream(*log("a\nb\n"))
    assert story.lines == []
    story.text("a\nb\nc\n")
    assert story.lines == ["a", "b"]
    story.hear(*log("c\n"))
    assert story.lines == ["a", "b", "c"]


@pytest.mark.parametrize("sign", [OTHER, Event("log", ""), None])
def test_an_ended_jobs_stream_that_only_shows_that_it_lives_is_left_in_the_end(sign: Event | None) -> None:
    story = Story()
    story.stream(*log("a\n"))
    story.tail.whole_log_failed(0, "Refused.", transient=False)
    for _ in range(1000):
        command = story.next(status="SUCCEEDED")
        if isinstance(command, do.Finish):
            break
        if isinstance(command, do.OpenWholeLog):
            story.tail.whole_log_failed(story.now, "Refused.", transient=False)
        elif isinstance(command, do.OpenStream):
            story.tail.stream_opened(story.now)
        elif isinstance(command, do.ReadStream):
            story.now += min(command.seconds, 1.0)
            if sign is None:
                story.tail.stream_idle(story.now, alive=True)
            else:
                story.hear(sign)
    assert command == do.Finish(End.JOB_ENDED)
    assert story.now < 60
    assert not story.tail.log_is_whole


def test_a_message_unlike_the_others_is_not_forwarded_before_the_whole_log_has_told() -> None:
    story = Story(sources=("http",))
    story.stream(*log("a\n"))
    story.text("a\nb\n")
    story.hear(*log("b\n"), Event("log", "proxy says hello", plain=True), *log("c\n"))
    assert story.lines == ["a", "b"]
    assert isinstance(story.next(), do.CloseStream)
    story.text("a\nb\nc\n")
    assert story.lines == ["a", "b", "c"]
    assert story.said == []


def test_a_log_that_only_now_and_then_is_plain_text_is_read_from_the_streams_if_there_is_nothing_else() -> None:
    story = Story(sources=("http",))
    plain = Event("log", "b\n", plain=True)
    story.stream(*log("a\n"))
    for _ in range(2):
        story.until(do.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.hear(plain, *log("c\n"))
    assert story.lines == ["a"]
    for _ in range(6):
        story.until(do.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.stream(*log("a\n"), plain, *log("c\n"))
    story.until(do.OpenWholeLog)
    story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.hear()
    assert story.lines == ["a", "b", "c"]


def test_a_shorter_log_that_is_nothing_like_the_old_one_is_forwarded_anew_at_the_end() -> None:
    story = Story(sources=())
    story.text("a long first line\n")
    story.text("new\n", status="SUCCEEDED")
    for _ in range(4):
        story.text("new\n", status="SUCCEEDED")
        if story.tail.log_is_whole:
            break
    assert story.lines == ["a long first line", "new"]
    assert len(story.said) == 1


def test_what_the_agent_says_of_its_stream_is_told_once_and_not_without_end() -> None:
    story = Story()
    story.stream(*(Event("error", f"broken {number % 50}") for number in range(500)))
    assert len(story.said) == 5
    assert len(set(story.said)) == 5


def test_that_the_log_cannot_be_read_is_told_once_and_again_after_it_could() -> None:
    story = Story(unreachable_timeout=1e9)
    for minutes in (10, 20):
        while story.now < minutes * 60:
            story.until(do.OpenWholeLog)
            story.tail.whole_log_failed(story.now, "503.")
        story.text("a\n" * minutes)
    assert [said[:35] for said in story.said] == ["The job's log cannot be read: 503. "] * 2


def test_a_stream_is_read_no_further_while_much_waits_for_an_answer() -> None:
    story = Story(sources=("http",))
    story.stream(*log("x" * 1_000_000))
    story.until(do.OpenWholeLog)
    story.tail.whole_log_failed(story.now, "503.")
    assert isinstance(story.tail.next(story.now), do.Wait)
    story.text("x" * 1_000_002)
    assert isinstance(story.next(), do.ReadStream)


def test_a_silent_stream_is_not_trusted_longer_while_the_whole_log_grows() -> None:
    story = Story(sources=("http",), silence_timeout=30.0)
    for number in range(1, 8):
        story.until(do.OpenStream)
        story.tail.stream_opened(story.now)
        story.until(do.CloseStream)
        story.text("line\n" * number)
    assert story.now < 7 * 45
    assert story.lines == ["line"] * 7


def test_the_end_is_news_even_if_the_status_has_the_same_name() -> None:
    story = Story(sources=())
    for _ in range(8):
        story.until(do.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "503.")
    story.tail.status_received(story.now, "RUNNING", terminal=True)
    assert story.tail.next(story.now) == do.OpenWholeLog()


def test_a_look_asks_the_status_reads_the_whole_log_and_ends() -> None:
    story = Story(once=True)
    story.text("a\nb\npartial")
    assert story.lines == ["a", "b"]
    assert story.next() == do.Finish(End.LOOKED)


def test_a_look_at_an_agent_that_refuses_the_log_ends_too() -> None:
    story = Story(once=True)
    story.until(do.OpenWholeLog)
    story.tail.whole_log_failed(0, "Refused.")
    assert story.next() == do.Finish(End.LOOKED)


def test_without_forwarding_only_the_status_is_asked() -> None:
    tail = Tail(TailSettings(forward=False, poll_interval=5))
    now = 0.0
    kinds = set()
    for status in ("PENDING", "RUNNING", "RUNNING", "SUCCEEDED"):
        command = tail.next(now)
        assert isinstance(command, do.AskStatus)
        tail.status_received(now, status, terminal=status == "SUCCEEDED")
        command = tail.next(now)
        kinds.add(type(command))
        if isinstance(command, do.Wait):
            now += command.seconds
    assert kinds == {do.Wait, do.Finish}
    assert now == 15


def test_at_the_deadline_everything_is_closed() -> None:
    story = Story(deadline=100.0)
    story.stream(*log("a\n"))
    assert isinstance(story.until(do.CloseStream), do.CloseStream)
    assert isinstance(story.until(do.Finish), do.Finish)
    assert story.next() == do.Finish(End.TIMED_OUT)
    assert 100 <= story.now < 101


def test_complete_before_the_last_lines_does_not_end_a_job_that_runs() -> None:
    story = Story(sources=("http",))
    story.stream(*log("a\n"), COMPLETE)
    story.text("a\nb\n")
    assert isinstance(story.next(), do.CloseStream)
    story.stream(*log("a\n", "b\n"))
    assert story.lines == ["a", "b"]
