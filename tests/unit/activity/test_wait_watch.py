"""When a followed job is looked at, and which reasons are told."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.activity.wait_reasons import WaitReason
from airflow_provider_rayagent.run import wait_watch
from airflow_provider_rayagent.run.wait_watch import WaitWatch
from tests.unit.activity.followed import CONFIG, Followed

if TYPE_CHECKING:
    from airflow_provider_rayagent.render.record_builder import Record

FULL = WaitReason(("scarce", "GPU"), "it requires 1 GPU; free: 0 of 4 GPUs")
MISSING = WaitReason(("job", "lacking"), "it requires 1 unicorn; no node has any unicorn", is_lasting=True)
MOMENTARY = FULL._replace(is_momentary=True)


class Waiting(Followed):
    """A followed job with a watch that tells why it waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: str | None) -> None:
        super().__init__(monkeypatch, wait_watch, status)
        self.watch = WaitWatch(CONFIG, "j1")

    def records(self) -> list[Record]:
        return self.watch.records(self.follower)


def told(reason: WaitReason) -> list[str]:
    return [f"Job j1 waits: {reason.text}."]


def test_a_pending_job_is_looked_at_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.found = FULL
    assert followed.until(14) == []
    assert followed.until(200) == told(FULL)
    assert followed.times == [16, 77, 138, 199]


def test_a_job_that_runs_is_looked_at_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "RUNNING")
    assert followed.until(4_000) == []
    gaps = [later - earlier for earlier, later in itertools.pairwise(followed.times)]
    assert gaps == [121, 241, 481, 601, 601, 601, 601, 601]


def test_a_job_that_writes_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "RUNNING")
    for minute in range(60):
        followed.until(50.0 * (minute + 1), writes=True)
    assert followed.times == []
    followed.until(3_100)
    assert followed.times == [3_011.0]


@pytest.mark.parametrize("status", [None, "SUCCEEDED", "FAILED", "STOPPED", "DREAMING"])
def test_a_job_of_another_status_is_not_looked_at(status: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, status)
    assert followed.until(1_000) == []
    assert followed.looks == []


def test_what_is_usual_for_a_moment_is_told_if_it_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.found = MOMENTARY
    assert followed.until(70) == []
    assert followed.until(200) == told(FULL)


def test_each_change_is_told_but_not_what_was_told_within_the_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    found = []
    for minute in range(120):
        followed.found = FULL if minute % 2 else MISSING
        found += followed.until(61.0 * (minute + 1))
    # Once each, and again after an hour.
    assert found == [*told(MISSING), *told(FULL)] * 2


def test_a_reason_that_comes_after_new_lines_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "RUNNING")
    followed.found, followed.is_slow = MISSING, True
    followed.until(70)
    assert len(followed.looks) == 1
    followed.until(80, writes=True)
    followed.answer()
    assert followed.until(100) == []


def test_a_look_at_an_earlier_status_is_canceled(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.is_slow = True
    followed.until(20)
    followed.follower.job = {"status": "RUNNING"}
    followed.until(30)
    assert followed.looks[0][1].cancelled()


def test_closing_the_watch_cancels_its_look(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.is_slow = True
    followed.until(20)
    followed.watch.close()
    assert followed.looks[0][1].cancelled()


def test_another_following_of_the_same_job_does_not_tell_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.found = FULL
    assert followed.until(20) == told(FULL)
    followed.watch.close()
    job, followed.follower.job = followed.follower.job, None
    followed.until(25)
    followed.follower.job = job
    assert followed.until(200) == []


def test_a_look_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.found = KeyError("name")
    assert followed.until(100) == []
    followed.found = FULL
    assert followed.until(200) == told(FULL)


def test_a_reason_is_shown_without_secrets_and_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Waiting(monkeypatch, "PENDING")
    followed.found = FULL._replace(text="1 task hunter2-secret\n::group::\x1b[2J requires 1 GPU")
    (text,) = followed.until(20)
    assert text == "Job j1 waits: 1 task ***\\x0a::\u200bgroup::\\x1b[2J requires 1 GPU."
