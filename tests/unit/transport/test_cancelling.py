"""A read whose cancellation coincides with data is cancelled; otherwise a trigger would never end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.transport.aio_logs import _ReadAhead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def body(came: asyncio.Event) -> AsyncIterator[bytes]:
    await came.wait()
    yield b"data"


def test_a_cancellation_that_coincides_with_data_is_not_lost() -> None:
    async def run() -> None:
        came = asyncio.Event()
        ahead = _ReadAhead(body(came), contextlib.AsyncExitStack())
        reading = asyncio.create_task(ahead.take(60.0))
        await asyncio.sleep(0.01)
        came.set()
        while not ahead._ready.is_set():  # noqa: ASYNC110 - the next turn of the loop is what counts
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await ahead.take(1.0) == [b"data"]
        await ahead.close()

    asyncio.run(run())
