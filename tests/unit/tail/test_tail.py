"""Individual rules of the tail, with one history each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.stream.events import COMPLETE, OTHER, Event
from airflow_provider_rayagent.tail import commands, draining
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.tail.whole_log import ROTATED_SECONDS
from tests.unit.tail.story import Story, log

if TYPE_CHECKING:
    from collections.abc import Callable


def test_lines_of_a_stream_are_forwarded_after_a_comparison_with_the_whole_log() -> None:
    story = Story()
    story.stream(*log("a\nb\n"))
    assert story.lines == []
    story.text("a\nb\nc\n")
    assert story.lines == ["a", "b"]
    story.receive(*log("c\n"))
    assert story.lines == ["a", "b", "c"]


@pytest.mark.parametrize("sign", [OTHER, Event("log", ""), None])
def test_a_stream_without_text_is_given_up_after_the_jobs_end(sign: Event | None) -> None:
    story = Story()
    story.stream(*log("a\n"))
    story.tail.whole_log_failed(0, "Refused.", transient=False)
    for _ in range(1000):
        command = story.next(status="SUCCEEDED")
        if isinstance(command, commands.Finish):
            break
        if isinstance(command, commands.OpenWholeLog):
            story.tail.whole_log_failed(story.now, "Refused.", transient=False)
        elif isinstance(command, commands.OpenStream):
            story.tail.stream_opened(story.now)
        elif isinstance(command, commands.ReadStream):
            story.now += min(command.seconds, 1.0)
            if sign is None:
                story.tail.stream_idle(story.now, alive=True)
            else:
                story.receive(sign)
    assert command == commands.Finish(End.JOB_ENDED)
    assert story.now < 60
    assert not story.tail.log_is_whole


def test_a_message_of_another_kind_is_not_forwarded_without_the_whole_log() -> None:
    story = Story(sources=("http",))
    story.stream(*log("a\n"))
    story.text("a\nb\n")
    story.receive(*log("b\n"), Event("log", "proxy says hello", plain=True), *log("c\n"))
    assert story.lines == ["a", "b"]
    assert isinstance(story.next(), commands.CloseStream)
    story.text("a\nb\nc\n")
    assert story.lines == ["a", "b", "c"]
    assert story.said == []


def test_mixed_plain_text_and_events_are_forwarded_if_the_whole_log_is_unavailable() -> None:
    story = Story(sources=("http",))
    plain = Event("log", "b\n", plain=True)
    story.stream(*log("a\n"))
    for _ in range(2):
        story.until(commands.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.receive(plain, *log("c\n"))
    assert story.lines == ["a"]
    for _ in range(6):
        story.until(commands.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.stream(*log("a\n"), plain, *log("c\n"))
    story.until(commands.OpenWholeLog)
    story.tail.whole_log_failed(story.now, "Gone.", transient=False)
    story.receive()
    assert story.lines == ["a", "b", "c"]


def test_a_shorter_and_different_log_is_forwarded_again_at_the_end() -> None:
    story = Story(sources=())
    story.text("a long first line\n")
    story.text("new\n", status="SUCCEEDED")
    for _ in range(4):
        story.text("new\n", status="SUCCEEDED")
        if story.tail.log_is_whole:
            break
    assert story.lines == ["a long first line", "new"]
    assert len(story.said) == 1


LONG = "".join(f"line {number}\n" for number in range(1_000))


def test_a_log_that_stays_shorter_than_what_was_forwarded_is_forwarded_from_its_new_start() -> None:
    story = Story(sources=())
    story.text(LONG)
    rotated_at = story.now
    while len(story.lines) == 1_000:
        assert story.now < rotated_at + 30
        story.text("new\n")
    assert story.lines[1_000:] == ["new"]
    assert story.now >= rotated_at + ROTATED_SECONDS
    story.text("new\nnewer\n")
    assert story.lines[1_001:] == ["newer"]
    assert len(story.said) == 1
    assert "job-driver-….log.1" in story.said[0]


@pytest.mark.parametrize("text", ["", LONG[:-1], LONG[:500]], ids=["empty", "without a newline", "its own beginning"])
def test_a_log_that_is_the_same_or_says_nothing_is_not_taken_for_a_rotated_one(text: str) -> None:
    story = Story(sources=())
    # So that a digest covers the beginning.
    story.text(LONG[:100])
    story.text(LONG)
    while story.now < 120:
        story.text(text)
    story.text(LONG + "more\n")
    assert story.lines == [*LONG.splitlines(), "more"]
    assert story.said == []


def test_a_log_that_is_late_for_a_while_is_not_taken_for_a_rotated_one() -> None:
    story = Story(sources=())
    story.text(LONG)
    for _ in range(3):
        late_at = story.now
        while story.now < late_at + ROTATED_SECONDS - 2:
            story.text("lin")
        story.text(LONG)
    assert story.said == []


def test_a_stream_without_text_is_replaced_now_and_then_although_it_is_alive() -> None:
    story = Story(sources=("websocket",))
    opened = []
    while story.now < 86_400:
        command = story.next()
        if isinstance(command, commands.OpenStream):
            opened.append(story.now)
            story.tail.stream_opened(story.now)
            story.receive(*log("a\n"))
        elif isinstance(command, commands.OpenWholeLog):
            story.text_of_open_log("a\n")
        elif isinstance(command, commands.ReadStream):
            story.now += max(command.seconds, 0.01)
            story.tail.stream_idle(story.now, alive=True)
    assert 5 <= len(opened) <= 9
    assert story.lines == ["a"]


def test_error_events_are_reported_once_each_and_limited_in_number() -> None:
    story = Story()
    story.stream(*(Event("error", f"broken {number % 50}") for number in range(500)))
    assert len(story.said) == 5
    assert len(set(story.said)) == 5


def test_an_unreadable_log_is_reported_once_until_it_is_readable_again() -> None:
    story = Story(unreachable_timeout=1e9)
    for minutes in (10, 20):
        while story.now < minutes * 60:
            story.until(commands.OpenWholeLog)
            story.tail.whole_log_failed(story.now, "503.")
        story.text("a\n" * minutes)
    assert [said[:43] for said in story.said] == ["RA-301: The job's log cannot be read: 503. "] * 2


def test_a_stream_is_not_read_while_too_much_is_held_back() -> None:
    story = Story(sources=("http",))
    story.stream(*log("x" * 1_000_000))
    story.until(commands.OpenWholeLog)
    story.tail.whole_log_failed(story.now, "503.")
    assert isinstance(story.tail.next(story.now), commands.Wait)
    story.text("x" * 1_000_002)
    assert isinstance(story.next(), commands.ReadStream)


def test_the_silence_timeout_is_not_extended_while_the_whole_log_grows() -> None:
    story = Story(sources=("http",), silence_timeout=30.0)
    for number in range(1, 8):
        story.until(commands.OpenStream)
        story.tail.stream_opened(story.now)
        story.until(commands.CloseStream)
        story.text("line\n" * number)
    assert story.now < 7 * 45
    assert story.lines == ["line"] * 7


def test_a_terminal_status_is_a_change_even_if_its_name_is_the_same() -> None:
    story = Story(sources=())
    for _ in range(8):
        story.until(commands.OpenWholeLog)
        story.tail.whole_log_failed(story.now, "503.")
    story.tail.status_received(story.now, "RUNNING", terminal=True)
    assert story.tail.next(story.now) == commands.OpenWholeLog()


@pytest.mark.parametrize(("unfinished", "lines"), [(False, ["a", "b"]), (True, ["a", "b", "partial"])])
def test_checking_once_gets_the_status_and_the_whole_log_and_ends(unfinished: bool, lines: list[str]) -> None:
    story = Story(once=True, unfinished=unfinished)
    story.text("a\nb\npartial")
    assert story.lines == lines
    assert story.next() == commands.Finish(End.CHECKED_ONCE)
    # It ends even if the log is unavailable.
    story = Story(once=True)
    story.until(commands.OpenWholeLog)
    story.tail.whole_log_failed(0, "Refused.")
    assert story.next() == commands.Finish(End.CHECKED_ONCE)


def test_without_forwarding_only_the_status_is_requested() -> None:
    tail = Tail(TailSettings(forward=False, poll_interval=5))
    now = 0.0
    kinds = set()
    for status in ("PENDING", "RUNNING", "RUNNING", "SUCCEEDED"):
        command = tail.next(now)
        assert isinstance(command, commands.GetStatus)
        tail.status_received(now, status, terminal=status == "SUCCEEDED")
        command = tail.next(now)
        kinds.add(type(command))
        if isinstance(command, commands.Wait):
            now += command.seconds
    assert kinds == {commands.Wait, commands.Finish}
    assert now == 15


def test_all_connections_are_closed_at_the_deadline() -> None:
    story = Story(deadline=100.0)
    story.stream(*log("a\n"))
    assert isinstance(story.until(commands.CloseStream), commands.CloseStream)
    assert isinstance(story.until(commands.Finish), commands.Finish)
    assert story.next() == commands.Finish(End.TIMED_OUT)
    assert 100 <= story.now < 101


@pytest.mark.parametrize("sources", [(), ("websocket", "http")])
def test_a_log_that_still_arrives_a_minute_after_the_deadline_is_given_up(sources: tuple[str, ...]) -> None:
    story = Story(deadline=10.0, sources=sources)
    story.until(commands.OpenWholeLog, status="SUCCEEDED")
    ended_at = story.now
    story.tail.whole_log_opened(story.now)
    while isinstance(story.next(), commands.ReadWholeLog):
        story.now += 0.9
        story.tail.whole_log_received(story.now, "a line\n")
    assert story.until(commands.Finish) == commands.Finish(End.JOB_ENDED)
    assert ended_at + 60 <= story.now < ended_at + 62
    assert not story.tail.log_is_whole
    assert story.lines == ["a line"] * 67
    assert story.said == ["RA-302: Could not read the end of the job's log; lines may be missing here."]


def test_a_premature_complete_event_does_not_end_the_tail() -> None:
    story = Story(sources=("http",))
    story.stream(*log("a\n"), COMPLETE)
    story.text("a\nb\n")
    assert isinstance(story.next(), commands.CloseStream)
    story.stream(*log("a\n", "b\n"))
    assert story.lines == ["a", "b"]


def read_after_end(
    story: Story, text_after: Callable[[float], str], *, head_seconds: float = 0.0, rejected_for: float = 0.0
) -> list[float]:
    """Let the job end, and answer requests for its log until the tail finishes. Return their times since the end.

    :param text_after: returns the log at so many seconds after the end; it is taken at the time of the request.
    :param head_seconds: time from a request to the head of the answer.
    """
    ended_at, requests = story.now, []
    story.tail.status_received(ended_at, "SUCCEEDED", terminal=True)
    while not isinstance(command := story.next(status="SUCCEEDED"), commands.Finish):
        if isinstance(command, commands.OpenWholeLog):
            requests.append(story.now - ended_at)
            if requests[-1] < rejected_for:
                story.tail.whole_log_failed(story.now, "500.", transient=False)
                continue
            story.now += head_seconds
            story.tail.whole_log_opened(story.now)
            story.tail.whole_log_received(story.now, text_after(requests[-1]))
        elif isinstance(command, commands.ReadWholeLog):
            story.tail.whole_log_ended(story.now)
        elif isinstance(command, commands.OpenStream):
            story.tail.stream_failed(story.now)
    return requests


@pytest.mark.parametrize("sources", [(), ("websocket", "http")])
@pytest.mark.parametrize("rejected_for", [50.0, 1e9])
def test_a_log_that_is_rejected_after_the_end_is_read_later_if_no_stream_opens_or_given_up_after_a_minute(
    rejected_for: float, sources: tuple[str, ...]
) -> None:
    story = Story(sources=sources)
    story.text("a\n")
    requests = read_after_end(story, lambda _: "a\nlast\n", rejected_for=rejected_for)
    assert story.tail.log_is_whole is (rejected_for == 50.0)
    if story.tail.log_is_whole:
        assert (story.lines, story.said) == (["a", "last"], [])
        assert len(requests) < 12
    else:
        assert 60 <= requests[-1] < 75
        assert story.said[-1] == "RA-302: Could not read the end of the job's log; lines may be missing here."


def test_an_answer_whose_head_is_late_may_lack_lines_that_were_written_after_the_request() -> None:
    story = Story(sources=())
    story.text("a\n")
    read_after_end(story, lambda seconds: "a\nlate\n" if seconds > 0.9 else "a\n", head_seconds=1.2)
    assert story.lines == ["a", "late"]
    assert story.tail.log_is_whole


@pytest.mark.parametrize(
    ("pause", "was_active", "log", "moments"),
    [
        (0.3, False, "a\nb\n", [0.0]),
        (0.3, False, "a\nb\nc\n", [0.0, draining.SETTLE_SECONDS]),
        (0.3, True, "a\nb\n", [0.0, draining.SETTLE_SECONDS]),
        (draining.SETTLE_SECONDS, False, "a\nb\n", [0.0, draining.SETTLE_SECONDS]),
    ],
    ids=["both agree", "the log has more", "the job was active afterwards", "the job ended later"],
)
def test_nothing_is_awaited_after_a_stream_that_was_complete_when_the_job_ended(
    pause: float, was_active: bool, log: str, moments: list[float]
) -> None:
    story = Story(sources=("websocket",))
    story.stream(Event("log", "a\nb\n"))
    story.text("a\nb\n")
    story.receive(COMPLETE)
    story.now += pause
    if was_active:
        story.tail.status_received(story.now, "RUNNING", terminal=False)
    assert read_after_end(story, lambda _: log) == pytest.approx(moments)
    assert "".join(f"{line}\n" for line in story.lines) == log
    assert story.tail.log_is_whole


@pytest.mark.parametrize(
    ("known", "moments"),
    [("a long line\n", [draining.SETTLE_SECONDS]), ("", [0.0, draining.SETTLE_SECONDS])],
    ids=["known to be large", "found to be large too early"],
)
def test_a_large_log_is_read_once_and_late_enough(
    known: str, moments: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LARGE_LOG_CHARS", 10)
    text = "a long line\n"
    story = Story(sources=())
    story.text(known)
    requests = read_after_end(story, lambda seconds: f"{text}late\n" if seconds > 0.9 else text)
    assert story.lines == ["a long line", "late"]
    assert requests == moments


def test_the_pause_after_a_reading_includes_the_time_in_which_the_service_prepares_the_answer() -> None:
    story = Story(sources=())
    story.until(commands.OpenWholeLog)
    story.now += 4.0
    story.text_of_open_log("a\n")
    read_at = story.now
    story.until(commands.OpenWholeLog)
    assert story.now == read_at + 40.0


def test_a_log_that_is_rewritten_again_and_again_is_forwarded_less_and_less_often() -> None:
    story = Story(sources=())
    read = 0
    while story.now < 3_600:
        story.text("".join(f"{number}\n" for number in range(read, read + 100)))
        read += 1
    assert len(story.lines) == 14 * 100
    assert len(story.said) == 13
    # The end of the job ends the pause.
    requests = read_after_end(story, lambda _: "last\n")
    assert requests[-1] < 5
    assert story.lines[-1] == "last"
    assert story.tail.log_is_whole
