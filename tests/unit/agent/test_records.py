"""Items of a followed job as records of the task log, and records joined into larger ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.agent.following import JobSeen
from airflow_provider_rayagent.agent.records import RECORD_BYTES, Record, grouped, records
from airflow_provider_rayagent.logs.commands import Notice

if TYPE_CHECKING:
    from airflow_provider_rayagent.agent.following import Item

INFO, WARNING = logging.INFO, logging.WARNING
FOUND = some.lists(some.tuples(some.sampled_from([INFO, WARNING]), some.text(max_size=12)).map(lambda x: Record(*x)))


def told(*items: Item) -> list[Record]:
    return list(records(items, "j1"))


def seen(status: str, **details: Any) -> JobSeen:
    return JobSeen({"status": status, **details})


def test_a_line_is_one_record_as_it_is() -> None:
    assert told("", "\ta  ", "a") == [Record(INFO, ""), Record(INFO, "\ta  "), Record(INFO, "a")]


def test_a_notice_says_how_grave_it_is() -> None:
    assert told(Notice("hm"), Notice("so it is", warning=False)) == [Record(WARNING, "hm"), Record(INFO, "so it is")]


def test_news_of_the_job_is_one_record() -> None:
    assert told(seen("RUNNING", entrypoint="python x.py")) == [
        Record(INFO, "Job j1 is RUNNING, entrypoint: python x.py.")
    ]


@pytest.mark.parametrize(("details", "told_of"), [({}, 1), ({"end_time": 5}, 0)])
def test_a_status_that_ray_does_not_have_is_warned_of_while_the_job_goes_on(
    details: dict[str, Any], told_of: int
) -> None:
    warnings = [record.text for record in told(seen("MIGRATING", **details)) if record.level == WARNING]
    assert len(warnings) == told_of
    assert all("'MIGRATING'" in text for text in warnings)


def test_nothing_that_airflows_view_would_obey_is_left() -> None:
    for record in told("::group::x", Notice("::endgroup::"), seen("RUNNING", entrypoint="::group::")):
        assert "::group::" not in record.text
        assert "::endgroup::" not in record.text


@given(FOUND, some.integers(1, 30))
def test_joined_records_hold_the_same_lines_in_order_with_levels_apart(found: list[Record], size: int) -> None:
    joined = list(grouped(found, size))
    parts = [(record.level, line) for record in joined for line in record.text.split("\n")]
    assert parts == [(record.level, line) for record in found for line in record.text.split("\n")]


@given(FOUND, some.integers(1, 30))
def test_a_joined_record_keeps_to_the_size_unless_it_is_one_line(found: list[Record], size: int) -> None:
    sources = {record.text for record in found}
    for record in grouped(found, size):
        assert len(record.text.encode()) <= size or record.text in sources


def test_lines_are_joined_up_to_the_size_in_bytes_of_utf8() -> None:
    joined = list(grouped(Record(INFO, "漢" * 33) for _ in range(1_000)))
    assert len(joined) == -(-1_000 // (RECORD_BYTES // 100))
    assert all(RECORD_BYTES * 0.9 < len(record.text.encode()) <= RECORD_BYTES for record in joined[:-1])


def test_half_characters_do_not_stop_the_joining() -> None:
    assert list(grouped([Record(INFO, "\ud800"), Record(INFO, "b")])) == [Record(INFO, "\ud800\nb")]
