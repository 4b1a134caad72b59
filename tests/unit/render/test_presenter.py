"""What is told of a job, as records for the task log."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.render.excerpt import Excerpt
from airflow_provider_rayagent.render.presenter import Presenter, PresentSettings, Record
from airflow_provider_rayagent.tail.cursor import Cursor
from tests.unit.render.test_bars import bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def job_lines(records: Iterable[Record]) -> list[str]:
    return [record.text for record in records if record.of_job]


def own_words(records: Iterable[Record]) -> list[str]:
    return [record.text for record in records if not record.of_job]


def presenter(position: Mapping[str, Any] | None = None, **settings: Any) -> Presenter:
    return Presenter(PresentSettings(**settings), position)


def feed(presenter: Presenter, texts: Iterable[str], now: float = 0.0) -> list[Record]:
    """Give lines to a presenter; return the records that are ready then."""
    for text in texts:
        presenter.line(text, now)
    return presenter.take(now)


def test_each_item_is_a_record_of_its_level_and_says_whose_it_is() -> None:
    lines = ["plain", "ERROR:root:boom\x07", "DEBUG:root:fine"]
    shower = Presenter()
    found = feed(shower, lines)
    shower.notice("lost")
    shower.of_ours(logging.INFO, "so", 0.0)
    assert found + shower.take(0.0) == [
        Record(logging.INFO, "plain", of_job=True),
        Record(logging.ERROR, "ERROR:root:boom\\x07", of_job=True),
        Record(logging.INFO, "DEBUG:root:fine", of_job=True),
        Record(logging.WARNING, "lost"),
        Record(logging.INFO, "so"),
    ]


def test_progress_is_the_job_s_and_info() -> None:
    shower = Presenter()
    shower.progress("\x1b[1mERROR: 50%\x1b[2J")
    assert shower.take(0.0) == [Record(logging.INFO, "\x1b[1mERROR: 50%\\x1b[2J", of_job=True)]


def test_levels_and_colors_are_arguments() -> None:
    assert feed(presenter(levels=False, colors=False), ["\x1b[31mERROR:root:boom\x1b[0m"]) == [
        Record(logging.INFO, "ERROR:root:boom", of_job=True)
    ]


def test_bars_are_thinned_and_a_notice_does_not_overtake_them() -> None:
    shower = Presenter()
    found = feed(shower, [bar(0), bar(1), bar(2)])
    shower.notice("lost")
    found += shower.take(0.0)
    assert [record.text for record in found] == [bar(0), bar(2), "lost"]


def test_the_state_of_a_bar_that_stands_still_is_shown_once_it_is_due() -> None:
    shower = Presenter()
    assert job_lines(feed(shower, [bar(0), bar(1), bar(2)])) == [bar(0)]
    assert shower.take(4.0) == []
    assert job_lines(shower.take(5.0)) == [bar(2)]
    assert shower.take(50.0) == shower.finish() == []


def test_of_a_long_log_the_first_and_the_last_lines_are_shown_and_how_many_are_not_is_said() -> None:
    shower = presenter(max_lines=3, tail_lines=2)
    found = [record for number in range(1_000) for record in feed(shower, [f"line {number}"])]
    assert job_lines(found) == ["line 0", "line 1", "line 2"]
    assert own_words(found) == [
        "3 lines of the job's log are shown; those that follow are not, but for the last 2, at its end."
    ]
    rest = shower.finish()
    assert job_lines(rest) == ["line 998", "line 999"]
    assert own_words(rest) == ["995 lines of the job's log were left out here; its last 2 lines follow."]
    assert shower.finish() == []


def test_a_log_that_is_hardly_too_long_is_shown_whole() -> None:
    shower = presenter(max_lines=3, tail_lines=2)
    found = feed(shower, [f"line {number}" for number in range(5)])
    rest = shower.finish()
    assert job_lines(found + rest) == [f"line {number}" for number in range(5)]
    assert own_words(rest) == []


def test_the_last_lines_keep_their_levels_and_no_progress_is_shown_among_them() -> None:
    shower = presenter(max_lines=1, tail_lines=4)
    feed(shower, ["first", "Traceback (most recent call last):", "  File"])
    shower.progress("50%")
    feed(shower, ["ValueError: x"])
    assert [record.level for record in shower.finish()] == [logging.ERROR] * 3


def test_a_position_is_small_json_and_holds_the_cursor() -> None:
    shower = presenter(max_lines=10)
    feed(shower, ["a", "b"])
    position = shower.position(Cursor(chars=4, lines=2, marks=[(4, "x" * 32)]))
    assert json.loads(json.dumps(position)) == position
    assert Cursor.from_json(position) == Cursor(chars=4, lines=2, marks=[(4, "x" * 32)])
    assert (position["shown"], position["again"]) == (2, 0)


def test_a_cursor_alone_is_a_position_too() -> None:
    shower = presenter(Cursor(lines=7).to_json())
    assert job_lines(feed(shower, ["a"])) == ["a"]


def follow(dice: random.Random, lines: list[str], restarts: int, **settings: Any) -> list[Record]:
    """Present lines in batches, and go on from a saved position now and then as another process would."""
    shower = presenter(**settings)
    at, now = 0, 0.0
    found: list[Record] = []
    while at < len(lines):
        size = dice.randint(1, 5)
        found += feed(shower, lines[at : at + size], now)
        at, now = min(at + size, len(lines)), now + dice.choice((0.0, 1.0, 7.0))
        if dice.random() < 0.5:
            saved = json.loads(json.dumps(shower.position(Cursor(lines=at))))
            if restarts and dice.random() < 0.7:
                restarts -= 1
                shower = presenter(saved, **settings)
                at = Cursor.from_json(saved).lines
    return found + shower.finish()


@pytest.mark.parametrize("restarts", [0, 1, 4])
def test_an_excerpt_is_exact_whoever_takes_over_when(restarts: int) -> None:
    for seed in range(500):
        dice = random.Random(seed)
        lines = [f"line {number}" for number in range(dice.randint(0, 40))]
        first, last = dice.randint(1, 12), dice.randint(0, 12)
        found = follow(dice, lines, restarts, max_lines=first, tail_lines=last)
        left_out = max(len(lines) - first - last, 0)
        rest = lines[first:]
        assert job_lines(found) == lines[:first] + rest[len(rest) - min(last, len(rest)) :], f"seed {seed}"
        assert [words for words in own_words(found) if words.startswith(f"{left_out} lines ")] or not left_out


@pytest.mark.parametrize("restarts", [0, 4])
def test_no_line_is_lost_or_repeated_for_a_bar_that_is_held_back_whoever_takes_over_when(restarts: int) -> None:
    for seed in range(500):
        dice = random.Random(seed)
        lines = [f"line {number}" if dice.random() < 0.4 else bar(number) for number in range(dice.randint(0, 40))]
        found = job_lines(follow(dice, lines, restarts))
        assert [line for line in found if "%|" not in line] == [line for line in lines if "%|" not in line]
        last = [line for line, after in zip(lines, [*lines[1:], "end"], strict=False) if "%|" not in after]
        assert [line for line in last if line not in found] == [], f"seed {seed}"
        assert len(found) == len(set(found)), f"seed {seed}"


def test_of_a_log_that_was_rewritten_no_line_is_taken_for_one_that_was_shown() -> None:
    first = presenter(max_lines=2, tail_lines=1)
    feed(first, ["a", "b", "c"])
    second = presenter(first.position(Cursor(lines=3)), max_lines=2, tail_lines=1)
    second.notice("the log was rewritten")
    second.log_was_rewritten()
    feed(second, ["x", "y"])
    assert job_lines(second.finish()) == ["y"]


def test_an_excerpt_without_a_limit_shows_all() -> None:
    excerpt: Excerpt[int] = Excerpt(None, 1)
    assert all(excerpt.takes(number) for number in range(1_000))
    assert excerpt.rest() == (0, [])
