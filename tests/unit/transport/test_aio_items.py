"""The items and the error of a generator that runs in a separate task."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.transport.aio_items import TaskItems
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.timeout(PATIENCE)


async def numbers(fail: bool = False) -> AsyncGenerator[int, None]:
    yield 1
    yield 2
    if fail:
        raise ZeroDivisionError


def test_items_are_returned_one_by_one_until_the_end() -> None:
    async def run() -> list[int]:
        return [item async for item in TaskItems(numbers())]

    assert asyncio.run(run()) == [1, 2]


async def test_an_error_is_raised_to_the_consumer_and_ends_the_iterator() -> None:
    items = TaskItems(numbers(fail=True))
    assert [await anext(items), await anext(items)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        await anext(items)
    assert [item async for item in items] == []


async def stubborn(started: asyncio.Event, log: list[str]) -> AsyncGenerator[int, None]:
    """Yield an item although cancelled, as a generator does whose timeout coincides with the cancellation."""
    try:
        started.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        log.append("cancelled")
        yield 1
        log.append("went on")
    finally:
        log.append("closed")


def test_an_iterator_is_closed_although_the_generator_has_not_noticed_the_cancellation() -> None:
    async def run() -> list[str]:
        started, log = asyncio.Event(), list[str]()
        items = TaskItems(stubborn(started, log))
        asking = asyncio.ensure_future(anext(items))
        await started.wait()
        await items.aclose()
        with pytest.raises(StopAsyncIteration):
            await asking
        return log

    assert asyncio.run(run()) == ["cancelled", "closed"]


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_closed_iterator_is_exhausted(taken: int) -> None:
    items = TaskItems(numbers())
    for _ in range(taken):
        await anext(items)
    await items.aclose()
    assert [item async for item in items] == []
