"""The lines that a job prints for Airflow alone are hidden where they are understood."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.render.result import RESULT_MARKERS
from airflow_provider_rayagent.tail.items import LogLines
from airflow_provider_rayagent.tail.lines import LineAssembler
from tests.unit.render.test_messages import message, texts


def test_messages_are_hidden_where_they_are_understood_unless_that_is_switched_off() -> None:
    lines = [
        "x",
        message("xcom", {"a": 1}),
        message("progress", {"done": 1}),
        f"the user entered {message('xcom', {'b': 1})}",
        message("xcom", {"return_value": 1}),
        "y",
    ]
    hidden = JobRecords("j1", messages=True)
    records = hidden.render([LogLines(lines)], 0.0)
    from_job = [(record.number, record.text) for record in records if record.from_job]
    assert from_job == [(number, lines[number]) for number in (0, 3, 4, 5)]
    assert [record.text[:12] for record in records if not record.from_job] == ["Progress: 1", "RA-310: A me"]
    assert hidden.last_lines == [lines[number] for number in (0, 3, 4, 5)]
    shown = JobRecords("j1", DisplaySettings(markers=True), messages=True)
    assert [line for line in texts(shown, LogLines(lines), at=0) if not line.startswith("RA-310")] == lines
    assert shown.printed.messages.state() == hidden.printed.messages.state()
    assert texts(JobRecords("j1"), LogLines(lines), at=0) == lines


def test_a_message_in_pieces_is_shown_as_a_whole() -> None:
    text = message("xcom", {"a": "x" * 100})
    pieces, _ = LineAssembler(40).feed(f"{text}\n")
    records = JobRecords("j1", messages=True)
    assert texts(records, LogLines(pieces), at=0) == [str(piece) for piece in pieces]
    assert records.printed.messages.xcoms == {"a": "x" * 100}


RESULT = RESULT_MARKERS[0]


@pytest.mark.parametrize(
    ("line", "is_hidden"),
    [
        ("{start}[1]{end}", True),
        ("(train pid=7) {start}[1]{end}", True),
        (" {start}[1]{end} ", True),
        ("{start}[1]{end} done", False),
        ("x {start}[1]{end}", False),
        ("{start}[1]{end} and {start}[2]{end}", False),
        ("{start}1]{end}", False),
        ("{start}NaN{end}", False),
        ("{start}[1]", False),
        ("{end}", False),
    ],
)
def test_a_result_is_hidden_if_it_is_usable_and_a_line_of_its_own(line: str, is_hidden: bool) -> None:
    start, end = RESULT
    line = line.format(start=start, end=end)
    assert texts(JobRecords("j1", markers=RESULT_MARKERS), LogLines([line]), at=0) == [line] * (not is_hidden)
    settings = DisplaySettings(markers=True)
    assert texts(JobRecords("j1", settings, markers=RESULT_MARKERS), LogLines([line]), at=0) == [line]
    assert texts(JobRecords("j1"), LogLines([line]), at=0) == [line]


def test_a_line_that_ends_an_earlier_result_is_shown() -> None:
    start, end = RESULT
    lines = [f"{start}", f"{start}1{end}", f"{start}2{end}"]
    assert texts(JobRecords("j1", markers=RESULT_MARKERS), LogLines(lines), at=0) == lines[:2]
