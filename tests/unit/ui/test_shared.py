"""Results that viewers share."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentTimeoutError
from airflow_provider_rayagent.ui import shared
from airflow_provider_rayagent.ui.shared import FRESH_SECONDS, KEPT_SECONDS, SharedResults


class Source:
    """Counts how often its result is fetched."""

    def __init__(self, error: Exception | None = None) -> None:
        self.fetched = 0
        self.released = asyncio.Event()
        self.error = error

    async def fetch(self) -> int:
        self.fetched += 1
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return self.fetched


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_ten_viewers_cost_one_request() -> None:
    source, results = Source(), SharedResults()
    viewers = [asyncio.create_task(results.get("jobs", source.fetch)) for _ in range(10)]
    await asyncio.sleep(0)
    source.released.set()
    assert await asyncio.gather(*viewers) == [1] * 10


async def test_a_result_is_used_for_a_short_time() -> None:
    clock, source = Clock(), Source()
    results = SharedResults(clock)
    source.released.set()
    assert await results.get("jobs", source.fetch) == 1
    clock.now += FRESH_SECONDS / 2
    assert await results.get("jobs", source.fetch) == 1
    assert await results.get("nodes", source.fetch) == 2
    clock.now += FRESH_SECONDS
    assert await results.get("jobs", source.fetch) == 3


async def test_one_that_took_long_is_used_for_as_long_again() -> None:
    clock, source = Clock(), Source()
    results = SharedResults(clock)
    viewer = asyncio.create_task(results.get("jobs", source.fetch))
    await asyncio.sleep(0)
    clock.now += 5 * FRESH_SECONDS
    source.released.set()
    assert await viewer == 1
    clock.now += 4 * FRESH_SECONDS
    assert await results.get("jobs", source.fetch) == 1


async def test_errors_are_shared() -> None:
    source, results = Source(RayAgentConnectionError("down")), SharedResults()
    source.released.set()
    for _ in range(3):
        with pytest.raises(RayAgentConnectionError, match="down"):
            await results.get("jobs", source.fetch)
    assert source.fetched == 1


async def test_after_a_change_the_result_is_fetched_again() -> None:
    source, results = Source(), SharedResults()
    source.released.set()
    assert await results.get("jobs", source.fetch) == 1
    results.forget("jobs", "unknown")
    assert await results.get("jobs", source.fetch) == 2


async def test_a_viewer_that_leaves_does_not_end_the_request_of_the_others() -> None:
    source, results = Source(), SharedResults()
    first, second = (asyncio.create_task(results.get("jobs", source.fetch)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    source.released.set()
    assert await second == 1


async def test_a_viewer_is_told_soon_and_the_request_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "WAIT_SECONDS", 0.01)
    source, results = Source(), SharedResults()
    with pytest.raises(RayAgentTimeoutError):
        await results.get("jobs", source.fetch)
    source.released.set()
    assert await results.get("jobs", source.fetch) == 1


async def test_the_last_result_takes_the_place_of_one_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "WAIT_SECONDS", 0.05)
    clock, source = Clock(), Source()
    results = SharedResults(clock)
    source.released.set()
    assert await results.get("jobs", source.fetch) == 1
    clock.now += FRESH_SECONDS + 1
    source.released.clear()
    assert await results.get("jobs", source.fetch) == 1
    # Another viewer does not start another request.
    assert await results.get("jobs", source.fetch) == 1
    assert source.fetched == 2
    clock.now += KEPT_SECONDS
    with pytest.raises(RayAgentTimeoutError):
        await results.get("jobs", source.fetch)
    source.released.set()
    assert await results.get("jobs", source.fetch) == 2


async def test_what_has_changed_or_failed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "WAIT_SECONDS", 0.05)
    clock, source = Clock(), Source()
    results = SharedResults(clock)
    source.released.set()
    assert await results.get("jobs", source.fetch) == 1
    results.forget("jobs")
    source.released.clear()
    with pytest.raises(RayAgentTimeoutError):
        await results.get("jobs", source.fetch)
    source.error = RayAgentConnectionError("gone")
    source.released.set()
    with pytest.raises(RayAgentConnectionError):
        await results.get("jobs", source.fetch)
