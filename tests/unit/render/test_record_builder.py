"""What is told of a job, as records for the task log."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.render.record_builder import DisplaySettings, Record, RecordBuilder
from airflow_provider_rayagent.tail.cursor import Cursor
from tests.unit.render.test_bars import bar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_rayagent.tail.cursor import LogPosition


def job_lines(records: Iterable[Record]) -> list[str]:
    return [record.text for record in records if record.from_job]


def own_words(records: Iterable[Record]) -> list[str]:
    return [record.text for record in records if not record.from_job]


def builder_with(position: LogPosition | None = None, **settings: Any) -> RecordBuilder:
    return RecordBuilder(DisplaySettings(**settings), position)


def feed(builder: RecordBuilder, texts: Iterable[str], now: float = 0.0) -> list[Record]:
    """Give lines to a builder; return the records that are ready then."""
    for text in texts:
        builder.add_line(text, now)
    return builder.take(now)


def test_each_item_is_a_record_of_its_level_and_says_whose_it_is() -> None:
    lines = ["plain", "ERROR:root:boom\x07", "DEBUG:root:fine"]
    builder = RecordBuilder()
    found = feed(builder, lines)
    builder.add_notice("lost")
    builder.add_message(logging.INFO, "so", 0.0)
    assert found + builder.take(0.0) == [
        Record(logging.INFO, "plain", from_job=True, number=0),
        Record(logging.ERROR, "ERROR:root:boom\\x07", from_job=True, number=1),
        Record(logging.INFO, "DEBUG:root:fine", from_job=True, number=2),
        Record(logging.WARNING, "lost"),
        Record(logging.INFO, "so"),
    ]
    builder.add_progress("\x1b[1mERROR: 50%\x1b[2J")
    assert builder.take(0.0) == [Record(logging.INFO, "\x1b[1mERROR: 50%\\x1b[2J", from_job=True)]
    assert feed(builder_with(levels=False, colors=False), ["\x1b[31mERROR:root:boom\x1b[0m"]) == [
        Record(logging.INFO, "ERROR:root:boom", from_job=True, number=0)
    ]


def test_bars_are_thinned_and_a_notice_does_not_overtake_them() -> None:
    builder = RecordBuilder()
    found = feed(builder, [bar(0), bar(1), bar(2)])
    builder.add_notice("lost")
    found += builder.take(0.0)
    assert [record.text for record in found] == [bar(0), bar(2), "lost"]


def test_the_state_of_a_bar_that_stands_still_is_shown_once_it_is_due() -> None:
    builder = RecordBuilder()
    assert job_lines(feed(builder, [bar(0), bar(1), bar(2)])) == [bar(0)]
    assert builder.take(4.0) == []
    assert job_lines(builder.take(5.0)) == [bar(2)]
    assert builder.take(50.0) == builder.finish() == []


def test_of_a_long_log_the_first_lines_are_shown_and_how_many_it_has_is_said() -> None:
    builder = builder_with(max_lines=3)
    found = [record for number in range(1_000) for record in feed(builder, [f"line {number}"])]
    assert job_lines(found) == ["line 0", "line 1", "line 2"]
    assert own_words(found) == ["Showing only the first 3 lines of the job's log (max_lines)."]
    builder.add_progress("50%")
    rest = builder.finish()
    assert job_lines(rest) == []
    assert own_words(rest) == [
        "Only the first 3 lines of the job's log are shown here (max_lines). It has 1,000; the Ray page has "
        "all of them."
    ]


def test_of_a_log_that_is_as_long_as_the_limit_nothing_is_said() -> None:
    builder = builder_with(max_lines=3)
    feed(builder, ["a", "b", "c"])
    again = builder_with(builder.position(Cursor(lines=3)), max_lines=3)
    assert builder.finish() == again.finish() == []


def test_a_position_is_small_json_and_holds_the_cursor() -> None:
    builder = builder_with(max_lines=10)
    feed(builder, ["a", "b"])
    position = builder.position(Cursor(chars=4, lines=2, marks=[(4, "x" * 32)]))
    assert json.loads(json.dumps(position)) == position
    assert Cursor.from_json(position) == Cursor(chars=4, lines=2, marks=[(4, "x" * 32)])
    assert position["shown"] == 2
    # A cursor alone is a position, too.
    assert job_lines(feed(builder_with(Cursor(lines=7).to_json()), ["a"])) == ["a"]


def follow(dice: random.Random, lines: list[str], restarts: int, *, planned: bool, **settings: Any) -> list[Record]:
    """Present lines in batches, and go on from a saved position now and then as another process would.

    :param planned: whether a process knows that it is the last moment; otherwise it is killed.
    """
    builder = builder_with(**settings)
    at, now = 0, 0.0
    found: list[Record] = []
    while at < len(lines):
        size = dice.randint(1, 5)
        found += feed(builder, lines[at : at + size], now)
        at, now = min(at + size, len(lines)), now + dice.choice((0.0, 1.0, 7.0))
        if restarts and dice.random() < 0.4:
            restarts -= 1
            found += builder.flush() if planned else []
            builder = builder_with(json.loads(json.dumps(builder.position(Cursor(lines=at)))), **settings)
    return found + builder.finish()


@pytest.mark.parametrize("restarts", [0, 1, 4])
def test_the_first_lines_are_shown_whoever_takes_over_when(restarts: int) -> None:
    for seed in range(500):
        dice = random.Random(seed)
        lines = [f"line {number}" for number in range(dice.randint(0, 40))]
        first = dice.randint(1, 12)
        found = follow(dice, lines, restarts, planned=dice.random() < 0.5, max_lines=first)
        assert job_lines(found) == lines[:first], f"seed {seed}"
        told = f"Only the first {first} lines of the job's log are shown here (max_lines). It has {len(lines)};"
        assert [words.startswith(told) for words in own_words(found)][1:] == [True] * (len(lines) > first)


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("restarts", [0, 4])
def test_no_line_is_lost_or_repeated_for_a_bar_that_is_held_back_whoever_takes_over_when(
    restarts: int, planned: bool
) -> None:
    """Only a kill loses a state of the bar: the one that is held back then."""
    for seed in range(500):
        dice = random.Random(seed)
        lines = [f"line {number}" if dice.random() < 0.4 else bar(number) for number in range(dice.randint(0, 40))]
        found = job_lines(follow(dice, lines, restarts, planned=planned))
        assert [line for line in found if "%|" not in line] == [line for line in lines if "%|" not in line]
        last = [line for line, after in zip(lines, [*lines[1:], "end"], strict=False) if "%|" not in after]
        lost = [line for line in last if line not in found]
        assert len(lost) <= (0 if planned else restarts), f"seed {seed}"
        assert len(found) == len(set(found)), f"seed {seed}"


def test_a_log_that_was_rewritten_counts_against_the_same_limit() -> None:
    first = builder_with(max_lines=3)
    feed(first, ["a", "b"])
    second = builder_with(first.position(Cursor(lines=2)), max_lines=3)
    second.add_notice("the log was rewritten")
    second.log_was_rewritten()
    assert job_lines(feed(second, ["x", "y"])) == ["x"]
    [last] = second.finish()
    assert "first 3 lines of the job's log are shown here (max_lines). It has 2;" in last.text
