"""The cursor: resuming at any point yields the same lines as an uninterrupted read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.text_reader import TextReader
from tests.unit.stream.test_events import JSON
from tests.unit.tail.history import lines_of
from tests.unit.tail.test_lines import TEXTS


def kept(cursor: Cursor) -> Cursor:
    return Cursor.from_json(json.loads(json.dumps(cursor.to_json())))


def read(cursor: Cursor, text: str, size: int, max_length: int = 1_000_000, *, end: bool = False) -> list[str]:
    reader = TextReader(cursor, max_length)
    lines = [line for at in range(0, len(text), size) for line in reader.feed_text(text[at : at + size])]
    return lines + (reader.flush() if end else [])


@pytest.mark.parametrize("text", [*TEXTS, "first\nsecond is longer\n\nthird\nlast"])
@pytest.mark.parametrize("max_length", [1_000_000, 3, 1])
def test_resuming_at_any_point_yields_the_same_lines(text: str, max_length: int) -> None:
    for stop in range(len(text) + 1):
        for size in (1, 2, 7, 100):
            cursor = Cursor()
            before = read(cursor, text[:stop], 100, max_length)
            resumed = kept(cursor)
            after = read(resumed, text, size, max_length, end=True)
            assert before + after == lines_of(text, max_length), f"stopped at {stop}, cut every {size}"
            assert resumed.chars == len(text)
            assert resumed.lines == len(before) + len(after)


@given(st.text("ab\n\U0001f680", max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 9))
def test_resuming_any_number_of_times_yields_every_line_once(text: str, stops: list[int], max_length: int) -> None:
    cursor = Cursor()
    lines: list[str] = []
    for size, stop in enumerate(stops, 1):
        lines += read(cursor, text[:stop], size, max_length)
        cursor = kept(cursor)
    assert lines + read(cursor, text, 4, max_length, end=True) == lines_of(text, max_length)


@given(st.text("ab\n", min_size=1, max_size=60), st.data())
def test_any_difference_from_the_forwarded_text_is_detected(text: str, data: st.DataObject) -> None:
    cursor = Cursor()
    read(cursor, text, 5, end=True)
    place = data.draw(st.integers(0, len(text) - 1))
    other = text[:place] + "x" + text[place + 1 :]
    with pytest.raises(ForeignTextError):
        read(cursor, other, data.draw(st.integers(1, 9)), end=True)


def test_another_text_is_detected_early() -> None:
    cursor = Cursor()
    text = "".join(f"line {number}\n" for number in range(10_000))
    read(cursor, text, 1000)
    reader = TextReader(cursor, 1000)
    with pytest.raises(ForeignTextError):
        reader.feed_text(text.upper()[:2_000])
    assert not reader.advanced


def test_a_shorter_text_is_reported_as_short_and_as_recognized_or_not() -> None:
    cursor = Cursor()
    read(cursor, "a\n", 5)
    read(cursor, "a\nbbbbbbbbbbbbbbbbbbbbbbbb\n", 5)
    for text, recognized in (("a", False), ("a\nb", True)):
        reader = TextReader(cursor, 100)
        reader.feed_text(text)
        assert reader.is_short
        assert reader.recognized is recognized


def test_the_size_of_a_cursor_does_not_depend_on_the_log() -> None:
    cursor = Cursor()
    reader = TextReader(cursor, 1_000_000)
    for power in range(26):
        reader.feed_text("x" * 2**power + "\n")
    cursor.chars = cursor.lines = 10**15
    cursor.marks += [(10**15 - 1, "f" * 32), (10**15, "f" * 32)]
    assert len(json.dumps(cursor.to_json())) < 1024


@given(JSON)
def test_json_that_is_not_a_cursor_is_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match="not a log cursor"):
        Cursor.from_json(value)


GOOD: dict[str, Any] = {"chars": 3, "lines": 1, "mid_line": False, "joining": "raw", "marks": [[1, "a"], [3, "b"]]}


@pytest.mark.parametrize(
    "change",
    [
        {"chars": 4},
        {"chars": -3, "marks": [[-3, "a"]]},
        {"chars": float("inf")},
        {"chars": None},
        {"joining": "words"},
        {"joining": ["raw"]},
        {"marks": []},
        {"marks": [[3, "b"], [1, "a"]]},
        {"marks": [[3, "b"], [3, "b"]]},
        {"marks": [[0, "a"], [3, "b"]]},
        {"marks": [1, 3]},
        {"marks": None},
        {"lines": "many"},
    ],
)
def test_a_corrupt_cursor_is_rejected(change: dict[str, Any]) -> None:
    assert Cursor.from_json(GOOD).to_json() == GOOD
    with pytest.raises(ValueError, match="not a log cursor"):
        Cursor.from_json({**GOOD, **change})


@given(st.fixed_dictionaries(dict.fromkeys(GOOD, JSON)))
def test_a_random_cursor_is_loaded_or_rejected_with_the_same_message(parts: dict[str, Any]) -> None:
    try:
        Cursor.from_json(parts)
    except ValueError as error:
        assert str(error) == "not a log cursor"  # noqa: PT017 - it need not raise
