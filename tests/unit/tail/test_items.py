"""Items are split into portions without loss or reordering."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.tail.items import PORTION_CHARS, Item, LogLines, Notice, in_portions, lines_in

ITEMS = st.lists(st.lists(st.text(max_size=2), max_size=12).map(LogLines) | st.text(max_size=2).map(Notice), max_size=8)


def flat(items: list[Item]) -> list[str | Item]:
    return [each for item in items for each in (item.lines if isinstance(item, LogLines) else [item])]


@given(ITEMS, st.integers(1, 7))
def test_portions_contain_all_items_in_order_within_the_size(items: list[Item], size: int) -> None:
    portions = list(in_portions(items, size))
    assert [each for portion in portions for each in flat(portion)] == flat(items)
    assert all(len(flat(portion)) <= size for portion in portions)
    assert len(portions) <= len(flat(items)) // size + 1


@given(st.lists(st.lists(st.integers(0, PORTION_CHARS + 10), max_size=9), max_size=5))
def test_a_portion_ends_with_the_line_that_completes_its_characters(lengths: list[list[int]]) -> None:
    items: list[Item] = [LogLines(["x" * length for length in each]) for each in lengths]
    portions = [flat(portion) for portion in in_portions(items, 100)]
    assert [line for portion in portions for line in portion] == flat(items)
    sizes = [[len(line) for line in portion if isinstance(line, str)] for portion in portions]
    assert all(sum(each[:-1]) < PORTION_CHARS for each in sizes)
    assert all(sum(each) >= PORTION_CHARS for each in sizes[:-1])


def test_no_items_yield_one_empty_portion() -> None:
    assert list(in_portions([], 5)) == [[]]


def test_lines_in_skips_other_items() -> None:
    assert lines_in([LogLines(["a", "b"]), Notice("n"), LogLines(["c"])]) == ["a", "b", "c"]
