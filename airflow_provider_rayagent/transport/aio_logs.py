"""How the asyncio transport reads bodies and WebSockets that take long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import httpcore

from airflow_provider_rayagent.transport.limits import READ_BYTES
from airflow_provider_rayagent.transport.log_responses import end_of_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack

# With a timeout of 0, httpcore cancels a read at its first checkpoint, even if data has arrived (anyio's receive()).
MIN_WAIT = 0.01
MAX_READ_AHEAD = 64
"""Chunks to read ahead; then the agent has to wait."""
MAX_READ_AHEAD_BYTES = 1_000_000


class UpgradedStream:
    """See :class:`.UpgradedConnection`."""

    broken = (httpcore.NetworkError, httpcore.TimeoutException, OSError)

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def receive(self, seconds: float) -> bytes | None:
        try:
            return await self._stream.read(READ_BYTES, timeout=max(seconds, MIN_WAIT))
        except httpcore.ReadTimeout:
            return None

    async def send(self, data: bytes, seconds: float) -> None:
        await self._stream.write(data, timeout=seconds)


class ReadAheadTask:
    """A task that reads a body ahead.

    :param source: the body.
    :param opened: closes the response.
    """

    def __init__(self, source: AsyncIterator[bytes], opened: AsyncExitStack) -> None:
        self._opened = opened
        self._items: list[bytes] = []
        self._bytes = 0
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._ready = asyncio.Event()
        self._space = asyncio.Event()
        # In a task, since a read that is cancelled closes the response (``HTTP11ConnectionByteStream`` of httpcore).
        self._task = asyncio.create_task(self._run(source))

    async def take(self, seconds: float) -> bytes:
        if not self._ready.is_set():
            # Before Python 3.12, asyncio.wait_for loses a cancellation that coincides with the awaited event.
            with anyio.move_on_after(seconds):
                await self._ready.wait()
        items, self._items, self._bytes = self._items, [], 0
        if not items and self._ended:
            raise end_of_stream(self._error) from self._error
        # At the end it stays set, so that the next call raises at once.
        if not self._ended:
            self._ready.clear()
        self._space.set()
        return b"".join(items)

    async def close(self) -> None:
        """Close the response, which ends the task.

        The task is not cancelled: ``asyncio.run`` has already done that at its end, and a second cancellation would
        interrupt the closing of the connection.
        """
        self._closed = True
        self._space.set()
        try:
            await self._opened.aclose()
        finally:
            await asyncio.wait((self._task,))

    async def _run(self, source: AsyncIterator[bytes]) -> None:
        try:
            async for item in source:
                self._items.append(item)
                self._bytes += len(item)
                self._ready.set()
                # Nobody takes data after close(), which would wait for this task for ever.
                if not self._closed and (len(self._items) >= MAX_READ_AHEAD or self._bytes >= MAX_READ_AHEAD_BYTES):
                    self._space.clear()
                    await self._space.wait()
        except Exception as error:  # noqa: BLE001 - of any kind: else the end would count as that of the log
            self._error = error
        self._ended = True
        self._ready.set()
