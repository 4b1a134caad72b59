"""What a generator in a task of its own gives: its items, its error, and then no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.client.aio_items import TaskItems

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.timeout(90)


async def numbers(fail: bool = False) -> AsyncGenerator[int, None]:
    yield 1
    yield 2
    if fail:
        raise ZeroDivisionError


def test_items_come_one_by_one_and_end() -> None:
    async def run() -> list[int]:
        return [item async for item in TaskItems(numbers())]

    assert asyncio.run(run()) == [1, 2]


def test_an_error_is_raised_where_an_item_is_awaited_and_then_there_are_no_more() -> None:
    async def run() -> None:
        items = TaskItems(numbers(fail=True))
        assert [await anext(items), await anext(items)] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await anext(items)
        assert [item async for item in items] == []

    asyncio.run(run())


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_there_are_no_more_items_once_they_are_closed(taken: int) -> None:
    async def run() -> None:
        items = TaskItems(numbers())
        for _ in range(taken):
            await anext(items)
        await items.aclose()
        assert [item async for item in items] == []

    asyncio.run(run())
