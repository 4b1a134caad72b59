"""When the status is requested before the polled request is due, and how often at most."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.early_checks import MAX_BUDGET, QUIET_SECONDS
from airflow_provider_rayagent.tail.machine import Tail
from airflow_provider_rayagent.tail.status import StatusPolling
from tests.unit.tail.history import History
from tests.unit.tail.verdict import complaint
from tests.unit.tail.world import World

HOUR = 3600.0


def polling(poll_interval: float = 5.0) -> StatusPolling:
    return StatusPolling(TailSettings(poll_interval=poll_interval), None, lambda: 0.5)


def requests(status: StatusPolling, texts: list[float], until: float) -> list[float]:
    """Return when the status of an active job is requested that writes at the given times."""
    now, pending = 0.0, list(texts)
    moments: list[float] = []
    while (now := min(status.due if moments else 0.0, pending[0] if pending else until)) < until:
        if pending and pending[0] <= now:
            status.text_received(pending.pop(0))
        else:
            status.received(now, "RUNNING", terminal=False)
            moments.append(now)
    return moments


@pytest.mark.parametrize(
    ("poll_interval", "until", "asked"),
    [
        # Soon after the last line, then less and less often.
        (5.0, 25, [0, 0.2 + QUIET_SECONDS, 3.3, 7.3, 12.3, 17.3, 22.3]),
        (60.0, 150, [0, 1.3, 3.3, 7.3, 15.3, 31.3, 63.3, 123.3]),
        # A short interval is kept after one early request.
        (1.0, 4.5, [0, 0.75, 1.3, 2.3, 3.3, 4.3]),
    ],
)
def test_after_a_line_the_poll_interval_is_reached_by_doubled_pauses(
    poll_interval: float, until: float, asked: list[float]
) -> None:
    assert requests(polling(poll_interval), [0.2], until) == pytest.approx(asked)


def test_a_job_that_writes_is_polled_a_third_more_often() -> None:
    texts = [second / 2 for second in range(int(HOUR) * 2)]
    assert len(requests(polling(), texts, HOUR)) == pytest.approx(HOUR / 3.75, abs=2)


@pytest.mark.parametrize("seed", range(50))
def test_early_requests_are_at_most_a_third_of_the_polled_ones(seed: int) -> None:
    dice = random.Random(seed)
    poll_interval = dice.choice((1.0, 5.0, 30.0))
    longest = dice.choice((2.0, 10.0, 100.0))
    texts, now = [], 0.0
    while (now := now + dice.random() * longest) < HOUR:
        texts.append(now)
    polled = HOUR / poll_interval
    asked = requests(polling(poll_interval), texts, HOUR)
    assert polled <= len(asked) <= polled * 4 / 3 + MAX_BUDGET + 1
    assert min(after - before for before, after in pairwise(asked)) > 0.49


def test_an_expected_end_is_checked_at_once_and_soon_again() -> None:
    status = polling()
    status.received(0, "RUNNING", terminal=False)
    status.end_expected(3)
    assert status.due == 3
    status.received(3, "RUNNING", terminal=False)
    assert status.due == 3 + QUIET_SECONDS


@pytest.mark.parametrize("answer", ["failed", "missing"])
def test_no_early_requests_while_they_fail(answer: str) -> None:
    status = polling()
    status.received(0, "RUNNING", terminal=False)
    status.text_received(4.9)
    due = {}
    for name in ("without text", "with text"):
        if name == "with text" and answer == "failed":
            status.text_received(5.1)
        status.failed(5, permanent=False) if answer == "failed" else status.missing(5)
        due[name] = status.due
    assert min(due.values()) > 5 + QUIET_SECONDS


@pytest.mark.parametrize(("ended_ago", "ended_by"), [(0.0, 10.0), (0.7, 9.3), (60.0, 5.0)])
def test_a_job_has_not_ended_before_it_was_last_seen_active(ended_ago: float, ended_by: float) -> None:
    status = polling()
    status.received(5, "RUNNING", terminal=False)
    status.received(10, "SUCCEEDED", terminal=True, ended_ago=ended_ago)
    assert status.ended_by == pytest.approx(ended_by)


@pytest.mark.parametrize(("inexact", "longest"), [(0.0, 3.2), (1.0, 4.2), (float("inf"), 4.2)])
def test_the_end_of_a_job_that_writes_is_noticed_within_seconds(inexact: float, longest: float) -> None:
    delays = []
    for seed in range(200):
        dice = random.Random(seed)
        history = History(
            seed=seed,
            text="line\n" * 7,
            duration=dice.uniform(3.0, 5.0),
            lag=dice.uniform(0.0, 2.0),
            stays_open=True,
            end_is_inexact=inexact,
            late=dice.choice((0.0, 0.7)),
        )
        world = World(history)
        assert complaint(world.run()) == ""
        delays.append(world.now - history.duration)
    # Lines arrive up to 2 seconds late, the silence after them lasts 1.1 seconds, and the log settles within one more.
    assert max(delays) < longest


def test_a_log_that_is_read_again_and_again_is_silent_if_a_reading_brings_nothing() -> None:
    tail = Tail(TailSettings(sources=(), log_interval=1.5))
    now, written, asked, read = 0.0, "a\n", [], []
    while now < 6:
        match tail.next(now):
            case commands.GetStatus():
                asked.append(now)
                tail.status_received(now, "RUNNING", terminal=False)
            case commands.OpenWholeLog():
                read.append(now)
                tail.whole_log_opened(now)
                tail.whole_log_received(now, written)
                if now == 1.5:
                    written += "b\n"
            case commands.ReadWholeLog():
                tail.whole_log_ended(now)
            case commands.Wait(seconds):
                now = round(now + seconds, 6)
            case command:
                raise AssertionError(command)
    assert read == [0, 1.5, 3, 4.5]
    # The readings at 1.5 and 4.5 seconds brought nothing.
    assert asked == [0, 1.6, 4.6]
