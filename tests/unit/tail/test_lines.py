"""Assemble chunks of text into lines."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail.lines import LineAssembler, SurrogateJoiner
from tests.unit.tail.history import halved, joined, lines_of

if TYPE_CHECKING:
    import random

TEXTS = [
    "",
    "a",
    "a\n",
    "\n",
    "\n\n\n",
    "a\n\n\nb",
    "  indented\t\n\ttrailing  \n",
    "same\nsame\nsame\n",
    "one\u2028still\u2029one\x85line\x0b\x0c\x1c\x1d\x1e\n",
    "progress\r50%\r100%\r\n\r\n",
    "\x1b[31mred\x1b[0m\n",
    "nul\x00\n",
    "\U0001f680\U0001f600\n\U0001f680",
    "\ud800\n\udc00",
    "no end",
]


def assembled(pieces: list[str], max_length: int = 1_000_000) -> tuple[list[str], str]:
    """Return the lines and the text that they consumed."""
    assembler = LineAssembler(max_length)
    lines: list[str] = []
    consumed = ""
    for piece in pieces:
        more, text = assembler.feed(piece)
        lines, consumed = lines + more, consumed + text
    last, text = assembler.flush()
    return lines + last, consumed + text


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("max_length", [1_000_000, 3, 2, 1])
def test_only_a_newline_ends_a_line_at_any_chunk_boundary(text: str, max_length: int) -> None:
    expected = lines_of(text, max_length)
    assert assembled(list(text), max_length) == (expected, text)
    for cut in range(len(text) + 1):
        assert assembled([text[:cut], text[cut:]], max_length) == (expected, text), f"cut at {cut}"


@given(st.lists(st.text("ab\n\r", max_size=12), max_size=8), st.integers(1, 8))
def test_chunk_boundaries_do_not_matter_for_random_text(pieces: list[str], max_length: int) -> None:
    text = "".join(pieces)
    assert assembled(pieces, max_length) == (lines_of(text, max_length), text)


@given(st.lists(st.text("ab\n", max_size=12), max_size=8), st.integers(1, 8))
def test_no_more_than_the_longest_line_is_held_back(pieces: list[str], max_length: int) -> None:
    assembler = LineAssembler(max_length)
    fed = consumed = 0
    for piece in pieces:
        consumed += len(assembler.feed(piece)[1])
        fed += len(piece)
        assert fed - consumed <= max_length


def test_a_line_of_five_megabytes_is_split_only_if_the_limit_requires_it() -> None:
    text = "x" * 5_000_000 + "\nnext\n"
    pieces = [text[at : at + 65_536] for at in range(0, len(text), 65_536)]
    lines, consumed = assembled(pieces)
    assert consumed == text
    assert len(lines) == 6
    assert lines[0] == "x" * 1_000_000 + " [line continues]"
    assert lines[4] == "[continued] " + "x" * 1_000_000
    assert lines[5] == "next"
    assert assembled(pieces, 8_000_000)[0] == ["x" * 5_000_000, "next"]


def test_the_memory_for_an_endless_line_is_bounded() -> None:
    assembler = LineAssembler(100_000)
    piece = "x" * 10_000
    tracemalloc.start()
    try:
        for _ in range(3_000):
            assembler.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@given(st.text(st.characters(), max_size=30), st.randoms(use_true_random=False))
def test_surrogate_pairs_are_joined_at_any_chunk_boundary(text: str, dice: random.Random) -> None:
    units = halved(text)
    joiner = SurrogateJoiner()
    out = ""
    while units:
        size = dice.randint(0, 3)
        peeked = joiner.peek(units[:size])
        piece = joiner.feed(units[:size])
        assert piece == peeked
        out, units = out + piece, units[size:]
    assert out + joiner.flush() == joined(text)


def test_a_lone_surrogate_is_kept() -> None:
    joiner = SurrogateJoiner()
    assert joiner.feed("a\ud83d") == "a"
    assert joiner.feed("") == ""
    assert joiner.feed("b\ude00") == "\ud83db\ude00"
    assert joiner.feed("\ud83d") == ""
    assert joiner.flush() == "\ud83d"
    assert joiner.flush() == ""
