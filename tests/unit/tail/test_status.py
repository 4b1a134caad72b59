"""When the status is requested, and when polling gives up."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.tail.backoff import Backoff
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.status import StatusPolling


def watch(deadline: float | None = None, **settings: float) -> StatusPolling:
    return StatusPolling(TailSettings(**settings), deadline, lambda: 0.5)  # type: ignore[arg-type]


def test_requests_are_due_at_the_poll_interval_and_earlier_ones_after_the_minimum() -> None:
    status = watch(poll_interval=5)
    assert status.is_due(100)
    assert status.received(100, "RUNNING", terminal=False)
    assert not status.is_due(104.9)
    assert (status.next_due(), status.is_due(105)) == (105, True)
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


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        # At 0, 10, 20 … seconds: A is absent, F another failure, M an unknown job, R a running one.
        ("RAAAAAAA", End.CLUSTER_GONE),
        ("RAAAAAA", None),
        ("RAAAAAFA", None),
        ("RAAAAARA", None),
        ("RAAAAAMA", None),
        ("RFFAAAAAAA", End.CLUSTER_GONE),
        # It was never there.
        ("AAAAAAAAAA", None),
        ("MAAAAAAAA", None),
        # The shorter of the two limits counts.
        ("RFFFFFFFFFFFFFFFFFFFFFFFFFFFAAAA", End.AGENT_UNREACHABLE),
    ],
)
def test_a_cluster_is_gone_after_being_absent_all_the_time(answers: str, end: End | None) -> None:
    status = watch(poll_interval=5, missing_timeout=60, unreachable_timeout=300)
    for number, answer in enumerate(answers):
        now = 10.0 * number
        if answer == "R":
            status.received(now, "RUNNING", terminal=False)
        elif answer == "M":
            status.missing(now)
        else:
            status.failed(now, permanent=False, absent=answer == "A")
    assert status.give_up_reason is end


def test_only_a_changed_or_terminal_status_is_a_change() -> None:
    status = watch()
    answers = [("PENDING", False), ("PENDING", False), ("RUNNING", False), ("RUNNING", True)]
    assert [status.received(0, name, terminal=end) for name, end in answers] == [True, False, True, True]
    assert status.ended_at == 0
    assert not status.is_due(1_000)


def test_a_single_failure_does_not_count_as_failing() -> None:
    status = watch()
    seen = []
    for now, failed in ((0, True), (5, True), (10, False)):
        if failed:
            status.failed(now, permanent=False)
        else:
            status.received(now, "RUNNING", terminal=False)
        seen.append(status.is_failing)
    status.missing(15)
    assert [*seen, status.is_failing] == [False, True, False, True]


@pytest.mark.parametrize(
    ("first", "then", "settings", "reason", "at"),
    [
        (None, "missing", {"poll_interval": 7, "missing_timeout": 60}, End.JOB_MISSING, 60),
        (None, "missing", {"poll_interval": 7, "missing_timeout": 10, "start_timeout": 20}, End.NOT_STARTED, 20),
        ("PENDING", "missing", {"poll_interval": 5, "missing_timeout": 10, "start_timeout": 100}, End.JOB_MISSING, 15),
        (None, "failed", {"poll_interval": 5, "unreachable_timeout": 300}, End.AGENT_UNREACHABLE, 300),
    ],
)
def test_polling_gives_up_exactly_at_its_timeout(
    first: str | None, then: str, settings: dict[str, float], reason: End, at: float
) -> None:
    status = watch(**settings)
    now = 0.0
    if first is not None:
        status.received(now, first, terminal=False)
        now = status.due
    while True:
        status.missing(now) if then == "missing" else status.failed(now, permanent=False)
        if status.give_up_reason:
            break
        now = status.due
    assert (status.give_up_reason, now) == (reason, at)


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


@pytest.mark.parametrize("answered_before", ["here", "to an earlier tail", ""])
def test_a_rejected_token_is_final_only_for_the_first_request(answered_before: str) -> None:
    status = watch(has_answered=answered_before == "to an earlier tail")
    if answered_before == "here":
        status.received(0, "RUNNING", terminal=False)
    status.failed(5, permanent=True)
    assert (status.give_up_reason is None) is bool(answered_before)
    assert status.has_answered is bool(answered_before)


@pytest.mark.parametrize(("deadline", "until"), [(None, float("inf")), (12, 69), (100, 100)])
def test_the_log_of_an_ended_job_is_read_to_the_deadline_but_for_a_minute_at_least(
    deadline: float | None, until: float
) -> None:
    status = watch(deadline)
    status.received(9, "SUCCEEDED", terminal=True)
    assert status.log_is_read_until == until


@pytest.mark.parametrize(("status", "reason"), [("RUNNING", End.TIMED_OUT), ("SUCCEEDED", None)])
def test_a_deadline_triggers_one_last_request_which_may_find_the_end(status: str, reason: End | None) -> None:
    polling = watch(deadline=12, poll_interval=5)
    polling.received(10, "RUNNING", terminal=False)
    assert polling.next_due() == 12
    assert polling.is_due(12)
    polling.received(12, status, terminal=reason is None)
    assert polling.give_up_reason is reason
    assert polling.ended_at == (12 if reason is None else None)


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


def test_the_start_timeout_does_not_apply_to_a_job_that_has_started() -> None:
    status = watch(poll_interval=5, start_timeout=20)
    for now, name in ((0, "PENDING"), (5, "RUNNING"), (500, "RUNNING")):
        status.received(now, name, terminal=False)
    assert status.give_up_reason is None
