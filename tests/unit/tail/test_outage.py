"""What the task log says while a job's status cannot be read."""

from __future__ import annotations

import logging

from airflow_provider_rayagent.tail.items import Notice
from airflow_provider_rayagent.tail.outage import Outage
from airflow_provider_rayagent.text.codes import Code

NOON = 1_767_182_400.0
WHY = "Nothing listens at http://ray:8265."


def failed(outage: Outage, sent_at: float, now: float, until: float | None = 300.0) -> list[Notice]:
    return outage.failed(sent_at, now, Code.UNREACHABLE, WHY, until=until, time=NOON + now)


def test_an_outage_is_told_once_with_when_it_becomes_a_failure_and_so_is_its_end() -> None:
    outage = Outage("j1")
    assert failed(outage, 0, 0) == failed(outage, 5, 5) == []
    text = f"RA-201: The status of job j1 cannot be read: {WHY} The job is not affected; trying until 12:05:00 UTC."
    assert failed(outage, 11, 11) == [Notice(text)]
    assert failed(outage, 40, 40) == []
    assert outage.ended() == [Notice("The status of job j1 can be read again.", logging.INFO)]
    assert outage.ended() == []


def test_a_request_that_hangs_is_an_outage_since_it_was_sent() -> None:
    assert failed(Outage("j1"), 0, 10) != []


def test_a_short_outage_is_not_told() -> None:
    outage = Outage("j1")
    assert failed(outage, 0, 9) == outage.ended() == failed(outage, 12, 12) == []


def test_the_last_failure_is_not_told_since_it_is_the_error_of_the_task() -> None:
    assert failed(Outage("j1"), 0, 300, until=None) == []
