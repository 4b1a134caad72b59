"""The thread of the page: what runs in it, and that it leaves time for the other threads."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.ui import page_thread as module
from airflow_provider_rayagent.ui.page_thread import page_thread, resting
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NAME = "rayagent-page"


class Numbers:
    """A generator that tells when it is closed.

    :param end: its last number is the one before; then it waits for ever if ``waits``.
    """

    def __init__(self, end: int, *, waits: bool = False) -> None:
        self.closed = threading.Event()
        self.waiting = threading.Event()
        self._end = end
        self._waits = waits

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self._end):
                assert threading.current_thread().name == NAME
                yield number
            if self._waits:
                self.waiting.set()
                await asyncio.Event().wait()
        finally:
            assert threading.current_thread().name == NAME
            self.closed.set()


def test_a_coroutine_and_a_function_run_in_the_thread() -> None:
    async def name() -> str:
        return threading.current_thread().name

    async def run() -> list[str]:
        return [await page_thread.run(name()), await page_thread.compute(lambda: threading.current_thread().name)]

    assert asyncio.run(run()) == [NAME, NAME]


def test_an_exception_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(page_thread.compute(divmod, 1, 0))


def test_what_a_caller_awaits_is_cancelled_with_it() -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def run() -> None:
        task = asyncio.create_task(page_thread.run(wait()))
        assert await asyncio.to_thread(began.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert cancelled.wait(PATIENCE)


def test_a_generator_runs_in_the_thread_and_is_closed() -> None:
    async def run(numbers: Numbers) -> list[int]:
        return [number async for number in page_thread.iterate(numbers())]

    numbers = Numbers(3)
    assert asyncio.run(run(numbers)) == [0, 1, 2]
    assert numbers.closed.wait(PATIENCE)


def test_a_generator_that_is_left_is_closed() -> None:
    async def run(numbers: Numbers) -> None:
        found = page_thread.iterate(numbers())
        assert await anext(found) == 0
        await found.aclose()

    numbers = Numbers(3)
    asyncio.run(run(numbers))
    assert numbers.closed.wait(PATIENCE)


def test_a_generator_is_closed_if_who_waits_for_its_next_item_is_cancelled() -> None:
    async def iterate(numbers: Numbers) -> None:
        async for _ in page_thread.iterate(numbers()):
            pass

    async def run(numbers: Numbers) -> None:
        task = asyncio.create_task(iterate(numbers))
        assert await asyncio.to_thread(numbers.waiting.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    numbers = Numbers(1, waits=True)
    asyncio.run(run(numbers))
    assert numbers.closed.wait(PATIENCE)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each rest, which does not take place."""
    found: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(thread_time=time.thread_time, sleep=found.append))
    return found


def compute_and_rest(times: int) -> None:
    for _ in resting(range(times), 1):
        until = time.thread_time() + module.COMPUTING_SECONDS
        while time.thread_time() < until:
            pass


def test_the_thread_rests_as_long_as_it_has_computed(rests: list[float]) -> None:
    asyncio.run(page_thread.compute(compute_and_rest, 5))
    assert len(rests) == 5
    assert all(module.COMPUTING_SECONDS <= seconds <= module.MAX_REST_SECONDS for seconds in rests)


def test_other_threads_do_not_rest(rests: list[float]) -> None:
    compute_and_rest(5)
    assert rests == []
