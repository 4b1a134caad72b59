"""How a stream's messages make up the text, and how the whole log settles it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.messages import StreamReading
from tests.unit.tail.history import halved, lines_of


def read(text: str, messages: list[str], *, whole: bool = True, batch: int = 1) -> tuple[list[str], int, Cursor]:
    """Return the lines, the number of questions, and the cursor; the log is ``text`` all the while."""
    cursor = Cursor()
    reading = StreamReading(cursor, 1_000_000)
    lines: list[str] = []
    questions = 0
    for at in range(0, len(messages), batch):
        lines += reading.feed(messages[at : at + batch])
        if reading.in_question:
            questions += 1
            question = reading.ask()
            for char in halved(text):
                if question.feed(char):
                    break
            lines += reading.answer(question.known if whole else None)
    return lines + reading.flush(), questions, cursor


@given(st.lists(st.text("ab\n\U0001f680", max_size=6), max_size=12), st.integers(1, 4))
def test_pieces_cut_anywhere_give_the_lines_of_the_text(pieces: list[str], batch: int) -> None:
    text = "".join(pieces)
    lines, questions, cursor = read(text, pieces, batch=batch)
    assert lines == lines_of(text) or cursor.joining == "lines"
    assert questions <= 20 + len(pieces)


@given(st.lists(st.text("ab\U0001f680", max_size=6), max_size=12), st.integers(1, 4), st.booleans())
def test_one_line_a_message_gives_the_lines_of_the_text(lines: list[str], batch: int, whole: bool) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert read(text, lines, batch=batch, whole=whole)[0] == lines or not any(lines)


def test_lines_joined_without_their_last_newline_keep_a_blank_line_at_their_end() -> None:
    text = "a\nb\n\nc\n\nd\n"
    for batch in (1, 2, 10):
        lines, _, cursor = read(text, ["a\nb\n", "c\n", "d"], batch=batch)
        assert lines == ["a", "b", "", "c", "", "d"]
        assert cursor.joining == "lines"


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_halves_of_a_surrogate_pair_in_two_messages_do_not_look_like_another_log(batch: int) -> None:
    text = "\U0001f680\U0001f600x\n\U0001f680"
    assert read(text, list(halved(text)), batch=batch)[0] == lines_of(text)


def test_a_line_that_ends_in_half_a_character_is_a_line_however_long_the_next_one_stays_away() -> None:
    text = "a\n\ud800\nb\n"
    reading = StreamReading(Cursor(), 1_000_000)
    lines: list[str] = []
    for messages in (["a"], ["\ud800"], *[[]] * 30, ["b"]):
        lines += reading.feed(messages)
        if reading.in_question:
            question = reading.ask()
            question.feed(text)
            lines += reading.answer(question.known)
    assert lines + reading.flush() == ["a", "\ud800", "b"]


def test_pieces_with_their_newlines_raise_one_question_at_the_beginning() -> None:
    pieces = [f"line {number}\n" for number in range(100)]
    lines, questions, _ = read("".join(pieces), pieces)
    assert lines == lines_of("".join(pieces))
    assert questions == 1


def test_without_the_whole_log_a_newline_in_a_message_tells_pieces_from_lines() -> None:
    assert read("", ["ab", "c\nd", "e"], whole=False)[0] == ["abc", "de"]
    assert read("", ["ab", "", "cd"], whole=False)[0] == ["ab", "", "cd"]
    assert read("", ["a\nb", "c"], whole=False)[0] == ["a", "bc"]


def test_a_stream_that_begins_in_the_middle_is_another_log() -> None:
    for messages in (["second\n"], ["", "second\n"], ["\ud83d", "\ude00\n"]):
        with pytest.raises(ForeignTextError):
            read("first\nsecond\n", messages)


def test_messages_without_a_character_wait_for_one_without_a_question() -> None:
    reading = StreamReading(Cursor(), 100)
    reading.feed(["", "", ""])
    assert not reading.in_question
    reading.feed(["a"])
    assert reading.in_question


def test_what_waits_is_bounded() -> None:
    reading = StreamReading(Cursor(), 100)
    reading.feed(["x" * 999_999])
    assert reading.is_full
    empty = StreamReading(Cursor(), 100)
    empty.feed([""] * 1_000_000)
    assert empty.is_full
    assert empty.in_question


def test_a_question_keeps_nothing_of_the_log_but_the_stretch_that_it_is_about() -> None:
    question = StreamReading(Cursor(chars=1000, marks=[(1000, "x")]), 100).ask()
    assert question.feed("y" * 10)
    assert question.known == "y"

    reading = StreamReading(Cursor(), 1_000_000)
    reading.feed(["x"])
    reading.answer("x\n")
    reading.feed_text("y" * 5_000)
    reading.feed(["z" * 9])
    question = reading.ask()
    for _ in range(5):
        assert not question.feed("-" * 1_000)
    assert not question.feed("-z")
    assert question.known == "z"
    assert question.feed("z" * 20)
    assert question.known == "z" * 11


def test_messages_that_are_not_of_the_log_are_noticed_where_it_is_asked() -> None:
    reading = StreamReading(Cursor(), 100)
    reading.feed(["first"])
    reading.answer("first\n")
    reading.feed(["junk"])
    with pytest.raises(ForeignTextError):
        reading.answer("\nsecond\n")
