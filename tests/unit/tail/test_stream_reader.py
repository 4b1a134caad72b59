"""Detect whether messages are chunks or lines, with the help of the whole log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.stream_reader import StreamReader
from tests.unit.tail.history import halved, lines_of


def read(text: str, messages: list[str], *, whole: bool = True, batch: int = 1) -> tuple[list[str], int, Cursor]:
    """Return the lines, the number of comparisons and the cursor. The log is ``text`` throughout."""
    cursor = Cursor()
    reader = StreamReader(cursor, 1_000_000)
    lines: list[str] = []
    comparisons = 0
    for at in range(0, len(messages), batch):
        lines += reader.feed(messages[at : at + batch])
        if reader.needs_comparison:
            comparisons += 1
            excerpt = reader.next_excerpt()
            for char in halved(text):
                if excerpt.feed(char):
                    break
            lines += reader.resume(excerpt.text if whole else None)
    return lines + reader.flush(), comparisons, cursor


@given(st.lists(st.text("ab\n\U0001f680", max_size=6), max_size=12), st.integers(1, 4))
def test_chunks_yield_the_lines_of_the_text(pieces: list[str], batch: int) -> None:
    text = "".join(pieces)
    lines, comparisons, cursor = read(text, pieces, batch=batch)
    assert lines == lines_of(text) or cursor.joining == "lines"
    assert comparisons <= 20 + len(pieces)


@given(st.lists(st.text("ab\U0001f680", max_size=6), max_size=12), st.integers(1, 4), st.booleans())
def test_one_line_per_message_yields_the_lines_of_the_text(lines: list[str], batch: int, whole: bool) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert read(text, lines, batch=batch, whole=whole)[0] == lines or not any(lines)


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_messages_with_newlines_are_never_lines_even_if_the_log_has_a_blank_line_there(batch: int) -> None:
    with pytest.raises(ForeignTextError):
        read("a\nb\n\nc\n\nd\n", ["a\nb\n", "c\n", "d"], batch=batch)


def test_a_later_stream_of_chunks_is_not_read_as_lines() -> None:
    text = "a\n\n\nb\n"
    lines, _, cursor = read(text, ["a", ""])
    assert (lines, cursor.joining) == (["a", ""], "lines")
    reader = StreamReader(cursor, 100)
    with pytest.raises(ForeignTextError):
        reader.feed(["a\n", "\n\nb\n"])
    assert cursor.lines == 2


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_surrogate_pair_split_between_messages_matches_the_log(batch: int) -> None:
    text = "\U0001f680\U0001f600x\n\U0001f680"
    assert read(text, list(halved(text)), batch=batch)[0] == lines_of(text)


def test_a_line_that_ends_with_a_lone_surrogate_does_not_depend_on_the_next_message() -> None:
    text = "a\n\ud800\nb\n"
    reader = StreamReader(Cursor(), 1_000_000)
    lines: list[str] = []
    for messages in (["a"], ["\ud800"], *[[]] * 30, ["b"]):
        lines += reader.feed(messages)
        if reader.needs_comparison:
            excerpt = reader.next_excerpt()
            excerpt.feed(text)
            lines += reader.resume(excerpt.text)
    assert lines + reader.flush() == ["a", "\ud800", "b"]


def test_chunks_with_newlines_need_one_comparison_at_the_start() -> None:
    pieces = [f"line {number}\n" for number in range(100)]
    lines, comparisons, _ = read("".join(pieces), pieces)
    assert lines == lines_of("".join(pieces))
    assert comparisons == 1


def test_without_the_whole_log_a_newline_in_a_message_distinguishes_chunks_from_lines() -> None:
    assert read("", ["ab", "c\nd", "e"], whole=False)[0] == ["abc", "de"]
    assert read("", ["ab", "", "cd"], whole=False)[0] == ["ab", "", "cd"]
    assert read("", ["a\nb", "c"], whole=False)[0] == ["a", "bc"]


def test_a_stream_that_starts_in_the_middle_is_rejected() -> None:
    for messages in (["second\n"], ["", "second\n"], ["\ud83d", "\ude00\n"]):
        with pytest.raises(ForeignTextError):
            read("first\nsecond\n", messages)


def test_empty_messages_are_held_back_without_a_comparison() -> None:
    reader = StreamReader(Cursor(), 100)
    reader.feed(["", "", ""])
    assert not reader.needs_comparison
    reader.feed(["a"])
    assert reader.needs_comparison


def test_the_number_of_characters_held_back_is_bounded() -> None:
    reader = StreamReader(Cursor(), 100)
    reader.feed(["x" * 999_999])
    assert reader.is_full
    empty = StreamReader(Cursor(), 100)
    empty.feed([""] * 1_000_000)
    assert empty.is_full
    assert empty.needs_comparison


def test_an_excerpt_holds_nothing_else_of_the_log() -> None:
    excerpt = StreamReader(Cursor(chars=1000, marks=[(1000, "x")]), 100).next_excerpt()
    assert excerpt.feed("y" * 10)
    assert excerpt.text == "y"
    reader = StreamReader(Cursor(), 1_000_000)
    reader.feed(["x"])
    reader.resume("x\n")
    reader.feed_text("y" * 5_000)
    reader.feed(["z" * 9])
    excerpt = reader.next_excerpt()
    for _ in range(5):
        assert not excerpt.feed("-" * 1_000)
    assert not excerpt.feed("-z")
    assert excerpt.text == "z"
    assert excerpt.feed("z" * 20)
    assert excerpt.text == "z" * 11


def test_messages_that_differ_from_the_log_are_detected_by_a_comparison() -> None:
    reader = StreamReader(Cursor(), 100)
    reader.feed(["first"])
    reader.resume("first\n")
    reader.feed(["junk"])
    with pytest.raises(ForeignTextError):
        reader.resume("\nsecond\n")
