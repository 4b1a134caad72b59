"""Progress bars whose every state is a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.render.bars import MAX_HELD, Bars, NumberedLine

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERVAL = 5.0


def bar(percent: int, name: str = "train") -> str:
    return f"{name}: {percent:3}%|{'█' * (percent // 10):10}| {percent}/100 [00:{percent // 2:02}<00:01, 9.9it/s]"


def shown(lines: Iterable[str], step: float, interval: float | None = INTERVAL) -> list[str]:
    """Return what is let through of lines that come every ``step`` seconds."""
    bars = Bars(interval)
    found: list[NumberedLine] = []
    for number, text in enumerate(lines):
        found += bars.feed(NumberedLine(number, 20, text), number * step)
    found += bars.flush()
    assert found == sorted(found)
    assert bars.first_held is None
    return [line.text for line in found]


def test_the_first_state_and_the_last_are_shown_and_between_them_one_every_few_seconds() -> None:
    states = [bar(percent) for percent in range(90)]
    assert shown(states, 0.5) == [bar(percent) for percent in (0, 10, 20, 30, 40, 50, 60, 70, 80, 89)]


def test_the_last_state_comes_before_the_line_that_ends_the_bar() -> None:
    assert shown([bar(0), bar(1), bar(2), "Traceback"], 0.1) == [bar(0), bar(2), "Traceback"]


def test_a_complete_bar_is_always_shown() -> None:
    epochs = [bar(percent) for _ in range(3) for percent in (0, 50, 100)]
    assert shown(epochs, 0.1) == [bar(0), bar(100), bar(100), bar(100)]


def test_slow_bars_and_all_bars_without_an_interval_are_left_alone() -> None:
    states = [bar(percent) for percent in range(10)]
    assert shown(states, INTERVAL) == states
    assert shown(states, 0.1, None) == states


def test_empty_lines_between_states_go_with_them_and_those_before_other_lines_stay() -> None:
    nested = [
        "",
        bar(0, "outer"),
        "",
        bar(0, "inner") + "\x1b[A",
        "",
        bar(50, "inner") + "\x1b[A",
        "",
        "   \x1b[A",
        "end",
    ]
    assert shown(nested, 0.1) == ["", nested[1], nested[3], nested[5], "", "   \x1b[A", "end"]


def test_a_worker_s_bar_is_thinned_though_ray_shows_the_process_in_a_line_of_its_own() -> None:
    process = "\x1b[36m(Worker pid=12, ip=10.0.0.1)\x1b[0m "
    lines = [line for percent in range(0, 90, 10) for line in (process, bar(percent))]
    assert shown([*lines, process + "done"], 0.1) == [process, bar(0), bar(80), process + "done"]


def test_what_only_looks_like_a_bar_is_let_through() -> None:
    lines = ["50%|half|", "a 10%| b", "| 50% |", "  5%|a table| cell [x]"] * 3
    assert shown(lines, 0.1) == lines


def test_what_is_held_back_is_bounded() -> None:
    bars = Bars(INTERVAL)
    for number in range(2_000):
        list(bars.feed(NumberedLine(number, 20, bar(number % 100, f"bar {number // 2}")), 0.0))
        list(bars.feed(NumberedLine(number, 20, ""), 0.0))
    assert len(bars.flush()) <= 3 * MAX_HELD


@given(
    st.lists(st.sampled_from(["a", "", "b c", bar(10), bar(20), bar(100), bar(10, "other"), bar(100, "other")])),
    st.sampled_from([0.1, 3.0, 6.0]),
)
def test_other_lines_come_once_in_order_and_each_bar_s_last_state_too(lines: list[str], step: float) -> None:
    found = shown(lines, step)
    assert [line for line in found if line.strip() and "%|" not in line] == [
        line for line in lines if line and "%|" not in line
    ]
    for number, line in enumerate(lines[:-1]):
        if "%|" in line and lines[number + 1] and "%|" not in lines[number + 1]:
            assert line in found
