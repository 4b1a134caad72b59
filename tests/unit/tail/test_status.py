"""When the status is requested, and when polling gives up."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.tail.backoff import Backoff
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.status import StatusPolling


def watch(deadline: float | None = None, **settings: float) -> StatusPolling:
    return StatusPolling(TailSettings(**settings), deadline, lambda: 0.5)  # type: ignore[arg-type]


def test_the_first_request_is_due_immediately_and_the_next_after_the_poll_interval() -> None:
    status = watch(poll_interval=5)
    assert status.is_due(100)
    assert status.received(100, "RUNNING", terminal=False)
    assert not status.is_due(104.9)
    assert status.next_due() == 105
    assert status.is_due(105)


def test_an_expedited_request_respects_the_minimum_interval() -> None:
    status = watch(poll_interval=5)
    status.received(100, "RUNNING", terminal=False)
    status.expedite(100.1)
    assert status.next_due() == 100.5
    status.received(100.5, "RUNNING", terminal=False)
    status.expedite(103)
    assert status.is_due(103)


def test_requests_after_failures_are_not_expedited_and_back_off() -> None:
    status = watch(poll_interval=5)
    now, pauses = 0.0, []
    for _ in range(6):
        status.failed(now, permanent=False)
        status.expedite(now)
        pauses.append(status.due - now)
        now = status.due
    assert pauses == [3.75, 7.5, 15, 22.5, 22.5, 22.5]


def test_only_a_changed_or_terminal_status_is_a_change() -> None:
    status = watch()
    answers = [("PENDING", False), ("PENDING", False), ("RUNNING", False), ("RUNNING", True)]
    assert [status.received(0, name, terminal=end) for name, end in answers] == [True, False, True, True]
    assert status.ended_at == 0
    assert not status.is_due(1_000)


def test_a_single_failure_does_not_count_as_failing() -> None:
    status = watch()
    status.failed(0, permanent=False)
    assert not status.is_failing
    status.failed(5, permanent=False)
    seen = [status.is_failing]
    status.received(10, "RUNNING", terminal=False)
    seen.append(status.is_failing)
    status.missing(15)
    assert [*seen, status.is_failing] == [True, False, True]


def test_a_job_that_stays_unknown_is_missing() -> None:
    status = watch(poll_interval=7, missing_timeout=60)
    asked = [0.0]
    while not status.give_up_reason:
        status.missing(asked[-1])
        asked.append(status.due)
    assert (status.give_up_reason, asked[-2]) == (End.JOB_MISSING, 60)


def test_a_job_that_appears_is_no_longer_missing() -> None:
    status = watch(missing_timeout=60)
    for now in (0, 59, 100, 159):
        if now == 59:
            status.received(now, "PENDING", terminal=False)
        else:
            status.missing(now)
        assert status.give_up_reason is None
    status.missing(160)
    assert status.give_up_reason is End.JOB_MISSING


def test_an_agent_may_be_unreachable_until_the_timeout() -> None:
    status = watch(poll_interval=5, unreachable_timeout=300)
    asked = [0.0]
    while not status.give_up_reason:
        status.failed(asked[-1], permanent=False)
        asked.append(status.due)
    assert (status.give_up_reason, asked[-2]) == (End.AGENT_UNREACHABLE, 300)


@pytest.mark.parametrize("answered_before", [True, False])
def test_a_rejected_token_is_final_only_for_the_first_request(answered_before: bool) -> None:
    status = watch()
    if answered_before:
        status.received(0, "RUNNING", terminal=False)
    status.failed(5, permanent=True)
    assert (status.give_up_reason is None) is answered_before


def test_a_deadline_triggers_one_last_request() -> None:
    status = watch(deadline=12, poll_interval=5)
    status.received(10, "RUNNING", terminal=False)
    assert status.next_due() == 12
    assert status.is_due(12)
    status.received(12, "RUNNING", terminal=False)
    assert status.give_up_reason is End.TIMED_OUT


def test_a_job_that_ended_at_the_deadline_has_ended() -> None:
    status = watch(deadline=12)
    assert status.is_due(12)
    status.received(12, "SUCCEEDED", terminal=True)
    assert status.give_up_reason is None
    assert status.ended_at == 12


def test_pauses_double_up_to_the_maximum_and_are_jittered() -> None:
    for jitter, expected in ((0.0, [0.5, 1, 2, 4, 7.5, 7.5]), (0.999, [0.9995, 1.999, 3.998, 7.996, 14.9925, 14.9925])):
        backoff = Backoff(1, 15, lambda jitter=jitter: jitter)  # type: ignore[misc]
        pauses = []
        for _ in expected:
            backoff.record_failure(100)
            pauses.append(round(backoff.due - 100, 6))
        assert pauses == expected
        backoff.expedite(101)
        assert (backoff.due, backoff.failures) == (101, len(expected))
        backoff.reset(102)
        assert (backoff.due, backoff.failures) == (102, 0)


def test_the_start_timeout_covers_unknown_and_pending() -> None:
    status = watch(poll_interval=5, missing_timeout=10, start_timeout=100)
    now = 0.0
    while now < 60:
        status.missing(now)
        now = status.due
    asked = 0.0
    while status.give_up_reason is None:
        status.received(now, "PENDING", terminal=False)
        asked, now = now, status.due
    assert (status.give_up_reason, asked) == (End.NOT_STARTED, 100)


def test_a_job_that_stays_unknown_has_not_started() -> None:
    status = watch(poll_interval=7, missing_timeout=10, start_timeout=20)
    asked = []
    while status.give_up_reason is None:
        asked.append(status.due)
        status.missing(max(status.due, 0.0))
    assert (status.give_up_reason, asked[-1]) == (End.NOT_STARTED, 20)


def test_a_job_that_is_no_longer_known_is_missing() -> None:
    status = watch(poll_interval=5, missing_timeout=10, start_timeout=100)
    status.received(0, "PENDING", terminal=False)
    while status.give_up_reason is None:
        status.missing(status.due)
    assert status.give_up_reason is End.JOB_MISSING


def test_the_start_timeout_does_not_apply_to_a_job_that_has_started() -> None:
    status = watch(poll_interval=5, start_timeout=20)
    status.received(0, "PENDING", terminal=False)
    for now in range(5, 500, 5):
        status.received(now, "RUNNING", terminal=False)
    assert status.give_up_reason is None
