"""When a followed job is looked at, and which reasons are told."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_rayagent.activity.wait_reasons import WaitReason
from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.run import wait_watch
from airflow_provider_rayagent.run.wait_watch import WaitWatch
from airflow_provider_rayagent.text.redaction import Redactor

FULL = WaitReason(("scarce", "GPU"), "it requires 1 GPU; free: 0 of 4 GPUs")
MISSING = WaitReason(("job", "lacking"), "it requires 1 unicorn; no node has any unicorn", is_lasting=True)
MOMENTARY = FULL._replace(is_momentary=True)


class Followed:
    """A followed job whose looks are answered at once, or by the test.

    :param status: of the job.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: str | None) -> None:
        self.now = 0.0
        self.looks: list[tuple[float, Future[Any]]] = []
        self.reason: WaitReason | Exception | None = None
        self.is_slow = False
        job = {"status": status} if status else None
        redact = Redactor(["hunter2-secret"])
        self.follower: Any = SimpleNamespace(job=job, clock=lambda: self.now, redact=redact, text_at=0.0)
        self.watch = WaitWatch(read_config(host="http://127.0.0.1:1", extra={"service": "ray"}), "j1")
        monkeypatch.setattr(wait_watch, "start_look", self._start)

    def _start(self, *_: object) -> Future[Any]:
        result: Future[Any] = Future()
        self.looks.append((self.now, result))
        if not self.is_slow:
            self.answer()
        return result

    def answer(self) -> None:
        _, result = self.looks[-1]
        if isinstance(self.reason, Exception):
            result.set_exception(self.reason)
        else:
            result.set_result(self.reason)

    def until(self, now: float, *, writes: bool = False) -> list[str]:
        """Go on to a time, second by second; return what is told. The job writes in the first second, or nothing."""
        told = []
        if writes:
            self.follower.text_at = self.now + 1
        while self.now < now:
            self.now += 1
            told += [record.text for record in self.watch.records(self.follower)]
        return told

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.looks]


def told(reason: WaitReason) -> list[str]:
    return [f"Job j1 waits: {reason.text}."]


def test_a_pending_job_is_looked_at_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.reason = FULL
    assert followed.until(14) == []
    assert followed.until(200) == told(FULL)
    assert followed.times == [16, 77, 138, 199]


def test_a_job_that_runs_is_looked_at_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "RUNNING")
    assert followed.until(4_000) == []
    gaps = [later - earlier for earlier, later in itertools.pairwise(followed.times)]
    assert gaps == [121, 241, 481, 601, 601, 601, 601, 601]


def test_a_job_that_writes_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "RUNNING")
    for minute in range(60):
        followed.until(50.0 * (minute + 1), writes=True)
    assert followed.times == []
    followed.until(3_100)
    assert followed.times == [3_011.0]


@pytest.mark.parametrize("status", [None, "SUCCEEDED", "FAILED", "STOPPED", "DREAMING"])
def test_a_job_of_another_status_is_not_looked_at(status: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, status)
    assert followed.until(1_000) == []
    assert followed.looks == []


def test_what_is_usual_for_a_moment_is_told_if_it_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.reason = MOMENTARY
    assert followed.until(70) == []
    assert followed.until(200) == told(FULL)


def test_each_change_is_told_but_not_what_was_told_within_the_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    found = []
    for minute in range(120):
        followed.reason = FULL if minute % 2 else MISSING
        found += followed.until(61.0 * (minute + 1))
    # Once each, and again after an hour.
    assert found == [*told(MISSING), *told(FULL)] * 2


def test_a_reason_that_comes_after_new_lines_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "RUNNING")
    followed.reason, followed.is_slow = MISSING, True
    followed.until(70)
    assert len(followed.looks) == 1
    followed.until(80, writes=True)
    followed.answer()
    assert followed.until(100) == []


def test_a_look_at_an_earlier_status_is_canceled(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.is_slow = True
    followed.until(20)
    followed.follower.job = {"status": "RUNNING"}
    followed.until(30)
    assert followed.looks[0][1].cancelled()


def test_closing_the_watch_cancels_its_look(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.is_slow = True
    followed.until(20)
    followed.watch.close()
    assert followed.looks[0][1].cancelled()


def test_another_following_of_the_same_job_does_not_tell_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.reason = FULL
    assert followed.until(20) == told(FULL)
    followed.watch.close()
    job, followed.follower.job = followed.follower.job, None
    followed.until(25)
    followed.follower.job = job
    assert followed.until(200) == []


def test_a_look_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.reason = KeyError("name")
    assert followed.until(100) == []
    followed.reason = FULL
    assert followed.until(200) == told(FULL)


def test_a_reason_is_shown_without_secrets_and_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed(monkeypatch, "PENDING")
    followed.reason = FULL._replace(text="1 task hunter2-secret\n::group::\x1b[2J requires 1 GPU")
    (text,) = followed.until(20)
    assert text == "Job j1 waits: 1 task ***\\x0a::\u200bgroup::\\x1b[2J requires 1 GPU."
