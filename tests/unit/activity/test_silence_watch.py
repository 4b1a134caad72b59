"""When a job that writes nothing is looked at, what is told, and when it has stalled."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity.running_parts import Attempt
from airflow_provider_rayagent.activity.silence_look import Silence
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.run import silence_watch
from airflow_provider_rayagent.run.silence_watch import MAX_TOLD, SilenceWatch, StallSettings
from tests.unit.activity.followed import CONFIG, Followed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_rayagent.render.record_builder import Record

MINUTE = 60.0
HUNG = Silence(frozenset({Attempt("t", 0)}), {"w": 3}, 7, is_known=True, parts=("1 task train",))
RETRIED = replace(HUNG, attempts=frozenset({Attempt("t", 1)}))
UNKNOWN = replace(HUNG, is_known=False, parts=("at least 100 tasks train",))


class Silent(Followed):
    """A followed job with a watch that tells what runs of it.

    :param settings: fields of :class:`StallSettings`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        super().__init__(monkeypatch, silence_watch, "RUNNING")
        self.found = HUNG
        self.find: Callable[[], Silence | Exception] | None = None
        """Returns what the next look results in."""
        self.stalls: list[tuple[float, str]] = []
        self.reason = ""
        self.renewed = 0
        self.follower.log_is_readable = True
        self.follower.renew_stream = self._renew
        self.follower.give_up = lambda why: self.stalls.append((self.now, why))
        self.watch = SilenceWatch(CONFIG, "j1", StallSettings(**settings))

    def records(self) -> list[Record]:
        return self.watch.records(self.follower, self.reason)

    @property
    def is_over(self) -> bool:
        return bool(self.stalls)

    def answer(self) -> None:
        if self.find is not None:
            self.found = self.find()
        super().answer()

    def headlines(self, now: float) -> list[str]:
        return [line for line in self.until(now) if line.startswith("Job ")]

    def _renew(self) -> None:
        self.renewed += 1


def test_a_silent_job_is_told_of_at_doubled_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    assert followed.until(600) == []
    assert followed.until(700) == ["Job j1 has written nothing for 10 minutes. What runs:", "  1 task train"]
    # The first one is compared with the next.
    assert followed.times == pytest.approx([540, 600], abs=2)
    followed.until(60 * 24 * 60 * MINUTE)
    gaps = [later / earlier for earlier, later in itertools.pairwise(followed.times[1:])]
    assert gaps == pytest.approx([2.0] * (MAX_TOLD - 1), rel=0.01)


def test_a_job_that_writes_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    for number in range(100):
        followed.until((number + 1) * 8 * MINUTE)
        followed.write()
    assert followed.times == []


def test_a_job_that_writes_has_not_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, after=None, timeout=20 * MINUTE)
    for number in range(100):
        followed.until((number + 1) * 15 * MINUTE)
        followed.write()
    assert followed.stalls == []
    # One for each silence, with which the next one would be compared.
    assert len(followed.times) == 100


def test_usual_pauses_are_told_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    told = []
    for number in range(20):
        told += followed.headlines((number + 1) * 15 * MINUTE)
        followed.write()
    assert len(told) == 1


def test_tasks_that_have_started_meanwhile_are_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    # Each takes some minutes.
    followed.found = replace(HUNG, oldest_ago=200.0, newest_ago=100.0)
    assert followed.until(1_000) == []
    # It may hang after all.
    followed.found = replace(HUNG, oldest_ago=1_300.0, newest_ago=1_300.0)
    assert followed.headlines(1_300) == ["Job j1 has written nothing for 20 minutes. What runs:"]


def test_a_part_that_runs_all_the_time_is_told_while_others_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    # As a controller that asks its workers again and again whether they have finished.
    count = itertools.count(4)
    followed.find = lambda: replace(HUNG, executed={"w": next(count)}, oldest_ago=5_000.0, newest_ago=1.0)
    assert followed.until(620) == [
        "Job j1 has written nothing for 10 minutes. What runs:",
        "  1 task train",
        "  other tasks of it start or end meanwhile",
    ]
    followed.until(300 * MINUTE)
    assert followed.stalls == []


def test_other_attempts_of_the_same_tasks_mean_that_the_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=10 * MINUTE)
    answers = itertools.cycle([HUNG, RETRIED])
    followed.find = lambda: next(answers)
    assert followed.until(600 * MINUTE) == []
    assert followed.stalls == []
    assert len(followed.times) <= 600 / 10 * 2 + 2


@pytest.mark.parametrize("after", [None, 10 * MINUTE, 30 * MINUTE, 100 * MINUTE])
def test_a_job_has_stalled_if_looks_found_the_same_for_the_whole_timeout(
    after: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = Silent(monkeypatch, after=after, timeout=30 * MINUTE)
    followed.reason = "it requires 1 GPU"
    told = followed.until(60 * MINUTE)
    ((at, why),) = followed.stalls
    # After the first look, which is after a minute, and the replacement of the stream.
    assert at == pytest.approx(32 * MINUTE, abs=5)
    assert followed.renewed == 1
    assert followed.times[0] == pytest.approx(MINUTE, abs=2)
    assert why == "1 task train; it waits: it requires 1 GPU"
    # What runs at the end is in the log, too.
    assert told[-2:] == ["  1 task train", f"  {why[14:]}"]


def test_a_stream_that_was_lost_without_a_sign_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    while not followed.renewed:
        followed.until(followed.now + 1)
    followed.write()
    followed.until(61 * MINUTE)
    assert followed.stalls == []


def test_a_look_that_fails_does_not_begin_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, after=None, timeout=30 * MINUTE)
    answers: Iterator[Silence | Exception] = iter([HUNG, RayAgentError("busy"), RayAgentError("busy")])
    followed.find = lambda: next(answers, HUNG)
    followed.until(60 * MINUTE)
    ((at, _),) = followed.stalls
    assert at == pytest.approx(35 * MINUTE, abs=10)


def test_a_look_that_waits_in_the_queue_proves_nothing_about_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, after=None, timeout=10 * MINUTE)
    followed.is_slow = True
    followed.until(400)
    followed.answer()
    followed.is_slow = False
    followed.until(60 * MINUTE)
    ((at, _),) = followed.stalls
    assert at >= 1_000


def test_the_time_before_the_job_ran_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    for status in ("PENDING", "RUNNING", "PENDING"):
        followed.follower.job["status"] = status
        followed.write()
        followed.until(followed.now + 20 * MINUTE)
    followed.follower.job["status"] = "RUNNING"
    assert followed.until(followed.now + 9 * MINUTE) == []
    assert followed.stalls == []


def test_a_trigger_that_goes_on_every_two_minutes_looks_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    for _ in range(40):
        followed.now += 119
        followed.until(followed.now + 1)
    assert len(followed.stalls) == 1


def test_a_stream_that_is_replaced_every_minute_does_not_end_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    for minute in range(60):
        followed.follower.log_is_readable = False
        followed.until(minute * MINUTE + 2)
        followed.follower.log_is_readable = True
        followed.until(minute * MINUTE + 60)
    assert len(followed.stalls) == 1


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (UNKNOWN, "at least 100 tasks train"),
        (RayAgentError("Ray is busy."), "not known: Ray is busy."),
        (ValueError("odd"), "not known"),
    ],
)
def test_what_is_not_known_proves_no_stall(found: Any, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=10 * MINUTE)
    followed.found = found
    told = followed.until(5 * 60 * MINUTE)
    assert followed.stalls == []
    # Less and less often.
    assert len(followed.times) <= 5 * 6 + 10
    assert len([line for line in told if line.startswith("Job ")]) == 5
    assert told[1] == f"  {shown}"


def test_a_log_that_cannot_be_read_does_not_make_a_job_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=10 * MINUTE)
    followed.follower.log_is_readable = False
    assert followed.until(100 * MINUTE) == []
    assert followed.times == []
    followed.follower.log_is_readable = True
    # There is time to read it before that.
    followed.until(100 * MINUTE + 30)
    assert followed.times == []


def test_a_process_that_stood_still_reads_the_log_before_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=30 * MINUTE)
    followed.until(20 * MINUTE)
    looks = len(followed.times)
    followed.now += 60 * MINUTE
    followed.until(80 * MINUTE + 50)
    assert len(followed.times) == looks
    followed.write()
    followed.until(85 * MINUTE)
    assert followed.stalls == []


def test_words_during_a_look_cancel_it(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch, timeout=11 * MINUTE)
    followed.is_slow = True
    followed.until(610)
    followed.write()
    followed.until(620)
    assert followed.looks[0][1].cancelled()
    assert followed.stalls == []


@pytest.mark.parametrize("status", ["PENDING", "SUCCEEDED", "DREAMING"])
def test_a_job_of_another_status_is_not_looked_at(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    followed.follower.job["status"] = status
    assert followed.until(100 * MINUTE) == []
    followed.follower.job["status"] = "RUNNING"
    # Silent from now on, not since its start.
    followed.until(104 * MINUTE)
    assert followed.times == []


def test_advice_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    followed.found = replace(HUNG, advice="Start py-spy.")
    assert followed.until(60 * MINUTE).count("  Start py-spy.") == 1


def test_another_following_of_the_same_job_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Silent(monkeypatch)
    followed.until(300)
    followed.watch.close()
    followed.follower = SimpleNamespace(**{**vars(followed.follower), "text_at": 0.0})
    assert len(followed.headlines(700)) == 1
