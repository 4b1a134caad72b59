"""The items and the error of a generator that runs in a separate task."""

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


def test_items_are_returned_one_by_one_until_the_end() -> None:
    async def run() -> list[int]:
        return [item async for item in TaskItems(numbers())]

    assert asyncio.run(run()) == [1, 2]


def test_an_error_is_raised_to_the_consumer_and_ends_the_iterator() -> None:
    async def run() -> None:
        items = TaskItems(numbers(fail=True))
        assert [await anext(items), await anext(items)] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await anext(items)
        assert [item async for item in items] == []

    asyncio.run(run())


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_closed_iterator_is_exhausted(taken: int) -> None:
    async def run() -> None:
        items = TaskItems(numbers())
        for _ in range(taken):
            await anext(items)
        await items.aclose()
        assert [item async for item in items] == []

    asyncio.run(run())
