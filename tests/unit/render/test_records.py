"""Items of a followed job as records of the task log, its result, and records joined into larger ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from airflow_provider_rayagent.render.joined_records import (
    MAX_SINGLE_RECORDS_PER_SECOND,
    RECORD_BYTES,
    Joiner,
    grouped,
)
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.render.records import (
    LAST_LINE_CHARS,
    LAST_LINES,
    JobRecords,
)
from airflow_provider_rayagent.render.result import ResultFinder
from airflow_provider_rayagent.tail.cursor import Cursor, as_position
from airflow_provider_rayagent.tail.items import JobStatusChanged, Notice, Progress
from airflow_provider_rayagent.text.redaction import Redactor
from tests.unit.render.take_overs import printed_in
from tests.unit.support import items_of

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.items import Item

INFO, WARNING = logging.INFO, logging.WARNING
FOUND = some.lists(
    some.tuples(some.sampled_from([INFO, WARNING]), some.text(max_size=12), some.booleans()).map(lambda x: Record(*x))
)
MARKERS = (("<<", ">>"),)


def told(*items: Item | str) -> list[Record]:
    return JobRecords("j1").render(items_of(*items), 0.0)


def lines_of(found: list[Record]) -> list[Record]:
    return [record._replace(text=line) for record in found for line in record.text.split("\n")]


def seen(status: str, **details: Any) -> JobStatusChanged:
    return JobStatusChanged({"status": status, **details})


def test_a_line_a_notice_and_news_of_the_job_are_one_record_each() -> None:
    lines = ("", "\ta  ", "a")
    assert told(*lines, Notice("hm"), seen("RUNNING", entrypoint="python x.py")) == [
        *(Record(INFO, text, from_job=True, number=number) for number, text in enumerate(lines)),
        Record(WARNING, "hm"),
        Record(INFO, "Job j1 is RUNNING, entrypoint: python x.py."),
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


def test_ours_and_the_jobs_words_keep_their_order() -> None:
    found = told("a", seen("RUNNING"), "ERROR:root:b", Notice("c"), "d", seen("FAILED"))
    assert [(record.level, record.text[:12], record.from_job) for record in found] == [
        (INFO, "a", True),
        (INFO, "Job j1 is RU", False),
        (logging.ERROR, "ERROR:root:b", True),
        (WARNING, "c", False),
        (INFO, "d", True),
        (INFO, "Job j1 is FA", False),
    ]


def test_lines_that_are_not_shown_are_looked_through_for_the_result() -> None:
    records = JobRecords("j1", markers=MARKERS, shown=False, where="http://a")
    found = records.render(items_of("x", '<<{"a": 1}>>', Notice("hm"), seen("RUNNING")), 0.0) + records.finish()
    assert [record.text for record in found] == ["hm", "Job j1 is RUNNING, at http://a."]
    assert records.printed.result is not None
    assert records.printed.result.value() == {"a": 1}


def test_each_complete_result_is_announced() -> None:
    calls: list[str] = []
    records = JobRecords("j1", markers=MARKERS, on_result=lambda: calls.append("result"))
    for line, expected in (("<<1", 0), (">", 0), ("2>> <<3>>", 1), ("x", 1), ("<<4>>", 2)):
        records.render(items_of(line), 0.0)
        assert len(calls) == expected, line


@given(
    some.lists(some.sampled_from(["x\n", "<<\n", ">>\n", "<<1>>\n", "50%|#####     | 1/2 [00:01<00:01]\n", "2\n"])).map(
        "".join
    )
    | some.text("<> 12\n", max_size=50),
    some.integers(1, 7) | some.just(16_000),
    some.data(),
)
def test_the_result_is_the_same_when_others_take_over_also_within_a_line(text: str, size: int, data: Any) -> None:
    whole = ResultFinder(MARKERS)
    for line in text.removesuffix("\n").split("\n") if text else ():
        whole.feed(line)
    found = printed_in(text, size, data, markers=MARKERS).result
    assert found is not None
    assert found.state() == whole.state()


def test_the_last_lines_are_kept_without_secrets_and_short() -> None:
    records = JobRecords("j1", redact=Redactor(["s3cret"]), shown=False)
    records.render(items_of(*(f"line {number}" for number in range(100))), 0.0)
    records.render(items_of("x" * (LAST_LINE_CHARS - 3) + "s3cret", "\x1b[2J\x00"), 0.0)
    assert records.last_lines == [
        *(f"line {number}" for number in range(102 - LAST_LINES, 100)),
        "x" * (LAST_LINE_CHARS - 3) + "***",
        "\\x1b[2J\\x00",
    ]


def test_no_secret_is_in_a_record_or_in_what_is_drawn_of_one() -> None:
    records = JobRecords("j1", redact=Redactor(["s3cret"]), where="http://a")
    items = items_of(
        "a s3cret",
        Notice("b s3cret"),
        Progress("c s3cret s3cr"),
        seen("s3cret", entrypoint="d s3cret"),
    )
    text = "\n".join(record.text for record in records.render(items, 0.0))
    assert "s3c" not in text
    assert text.count("***") == 7


@pytest.mark.parametrize("value", [None, "x", 7, [], {}, {"chars": -1}, {**Cursor().to_json(), "marks": 5}])
def test_what_is_no_position_is_none(value: Any) -> None:
    assert as_position(value) is None


@given(FOUND, some.integers(1, 30))
def test_joined_records_keep_to_the_size_with_the_same_lines_in_order_and_levels_and_speakers_apart(
    found: list[Record], size: int
) -> None:
    joined = list(grouped(found, size))
    assert lines_of(joined) == lines_of(found)
    sources = {record.text for record in found}
    assert all(len(record.text.encode()) <= size or record.text in sources for record in joined)


def test_lines_are_joined_up_to_the_size_in_bytes_of_utf8() -> None:
    joined = list(grouped(Record(INFO, "漢" * 33) for _ in range(1_000)))
    assert len(joined) == -(-1_000 // (RECORD_BYTES // 100))
    assert all(RECORD_BYTES * 0.9 < len(record.text.encode()) <= RECORD_BYTES for record in joined[:-1])


def test_in_a_worker_lines_are_joined_once_many_come_within_a_second() -> None:
    joiner = Joiner()
    few, many = ([Record(INFO, "a")] * count for count in (5, MAX_SINGLE_RECORDS_PER_SECOND))
    moments = [(0.0, few, 5), (0.1, many, 1), (0.9, few, 1), (1.0, many, len(many)), (1.1, few, 1), (2.5, few, 5)]
    for now, found, count in moments:
        joined = list(joiner.joined(found, now))
        assert (len(joined), lines_of(joined)) == (count, found)


def test_half_characters_do_not_stop_the_joining() -> None:
    assert list(grouped([Record(INFO, "\ud800"), Record(INFO, "b")])) == [Record(INFO, "\ud800\nb")]
