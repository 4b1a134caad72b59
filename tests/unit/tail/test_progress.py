"""Redrawn lines: their state is reported at intervals, their last state is forwarded, and the position is exact."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.items import LogLines, Progress, lines_in
from airflow_provider_rayagent.tail.lines import RedrawingAssembler
from tests.level import by_level, seeded, seeds
from tests.unit.tail.history import draw_history, drawn_lines_of
from tests.unit.tail.story import Story, log
from tests.unit.tail.verdict import complaint
from tests.unit.tail.world import World

HISTORIES = by_level(1_000, 5_000)
KNOWN_SEEDS: tuple[int, ...] = ()
"""Seeds that once failed."""
ALPHABETS = ("a\r\n", "ab\r", "\r\n", "a\r\r\n ", "\U0001f600\r\n", "\ra\n\n\n")


def assembled(pieces: list[str], max_length: int = 1_000_000) -> tuple[list[str], str, str]:
    """Return the lines, the text that they and superseded states consumed, and the state before the end."""
    assembler = RedrawingAssembler(max_length)
    lines: list[str] = []
    consumed = ""
    for piece in pieces:
        more, text = assembler.feed(piece)
        lines, consumed = lines + more, consumed + text
    state = assembler.state
    last, text = assembler.flush()
    return lines + last, consumed + text, state


@pytest.mark.parametrize(
    ("text", "lines", "state"),
    [
        ("\r 10%\r 50%\r100%\ndone\n", ["100%", "done"], ""),
        ("10%\r50%\r100%\r\n", ["100%\r"], ""),
        ("windows\r\nline\r\n", ["windows\r", "line\r"], ""),
        ("odd\r\r\n", ["odd\r\r"], ""),
        ("\r\n\r\n", ["\r", "\r"], ""),
        ("\r 10%\r 50%", [" 50%"], " 50%"),
        ("10%\r50%\r", ["50%\r"], "50%"),
        ("a line\npart", ["a line", "part"], ""),
        ("bar\r     \rtext\n\rbar", ["text", "bar"], "bar"),
        ("one\rtwo\nthree", ["two", "three"], ""),
    ],
)
def test_a_line_is_its_last_state_at_any_chunk_boundary(text: str, lines: list[str], state: str) -> None:
    assert drawn_lines_of(text) == lines
    assert assembled(list(text)) == (lines, text, state)
    for cut in range(len(text) + 1):
        assert assembled([text[:cut], text[cut:]]) == (lines, text, state), f"cut at {cut}"


@given(st.lists(st.text("ab\r\n", max_size=8), max_size=8), st.integers(1, 5))
def test_chunk_boundaries_do_not_matter_for_random_states(pieces: list[str], max_length: int) -> None:
    text = "".join(pieces)
    lines, consumed, _ = assembled(pieces, max_length)
    assert (lines, consumed) == (drawn_lines_of(text, max_length), text)


def test_a_state_that_is_too_long_is_complete_and_the_next_one_does_not_continue_it() -> None:
    lines = ["0123456789 [line continues]", "[continued] ABCDE\r", "last"]
    text = "0123456789ABCDE\rdropped\rlast\n"
    assert assembled([text], 10)[0] == lines
    assert assembled(list(text), 10)[0] == lines


def test_a_hundred_thousand_states_are_one_line_and_take_little_memory() -> None:
    assembler = RedrawingAssembler(16_000)
    consumed = 0
    tracemalloc.start()
    try:
        for number in range(100_000):
            lines, text = assembler.feed(f"\r{number:6} of 100000 [{'#' * (number // 2_000):50}]")
            assert lines == []
            consumed += len(text)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert consumed == 99_999 * 70 + 1
    assert assembler.state.startswith(" 99999 of")
    assert assembler.feed("\n")[0] == [f" 99999 of 100000 [{'#' * 49:50}]"]


@pytest.mark.parametrize("restarts", [0.0, 0.1])
def test_only_the_last_state_of_each_line_is_forwarded_once_and_in_order(restarts: float) -> None:
    for seed in seeds(HISTORIES, KNOWN_SEEDS):
        dice = random.Random(seed)
        history = replace(
            draw_history(dice),
            text="".join(dice.choices(dice.choice(ALPHABETS), k=dice.randint(0, 60))),
            progress_interval=dice.choice((0.0, 1.0, 5.0)),
            restarts=restarts,
            from_now=0.0,
            junk=0.0,
        )
        world = World(history)
        assert complaint(world.run()) == "", f"{seeded(seed)}: {history}"
        states = history.text.replace("\n", "\r").split("\r")
        assert all(any(text in state for state in states) for _, text in world.progress), seeded(seed)
        if history.progress_interval and not restarts:
            assert len(world.progress) <= world.now / history.progress_interval, seeded(seed)


class Bar(Story):
    """A stream that delivers one step per second."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(sources=("http",), **settings)
        self.written = ""
        self.stream()

    def step(self, text: str) -> None:
        self.written += text
        self.receive(*log(*[text] if text else []))
        self._read()
        self.now += 1

    def again(self) -> None:
        """Lose the stream, open another one, and replay everything."""
        self.tail.stream_ended(self.now)
        self.stream(*log(self.written))
        self._read()

    def _read(self) -> None:
        while not isinstance(self.next(), commands.ReadStream):
            self.text_of_open_log(self.written)


def test_a_progress_bar_is_reported_at_intervals_and_at_its_end() -> None:
    bar = Bar(progress_interval=5.0)
    for number in range(12):
        bar.step(f"\rstep {number}")
    bar.step("\n")
    shown = [item.text if isinstance(item, Progress) else lines_in([item])[0] for _, item in bar.told]
    moments = [moment for moment, _ in bar.told]
    assert shown == ["step 5", "step 10", "step 11"]
    assert moments[1] - moments[0] == 5


def test_an_unchanged_progress_bar_is_reported_once() -> None:
    bar = Bar(progress_interval=5.0)
    bar.step("\rhalf way")
    for _ in range(30):
        bar.step("")
    assert [item for _, item in bar.told] == [Progress("half way")]


def test_progress_does_not_advance_the_cursor() -> None:
    bar = Bar(progress_interval=0.0)
    for text in ("first\n", "\r10%", "\r20%"):
        bar.step(text)
    cursor = bar.tail.cursor
    assert cursor.chars == len("first\n\r10%\r")
    assert cursor.lines == 1
    bar.again()
    bar.step("\r30%\nlast\n")
    assert lines_in(item for _, item in bar.told) == ["first", "30%", "last"]
    assert cursor.chars == len(bar.written)
    assert cursor.lines == 3


def test_without_an_interval_no_progress_is_reported_and_nothing_is_dropped() -> None:
    bar = Bar()
    for text in ("\r10%", "\r20%", "\n"):
        bar.step(text)
    assert [item for _, item in bar.told] == [LogLines(["\r10%\r20%"])]
