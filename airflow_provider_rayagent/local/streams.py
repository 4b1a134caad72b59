"""The forms in which logs go out: a live one as server-sent events and over a WebSocket, a whole one as text."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.events import COMPLETE, messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from fastapi import WebSocket
    from starlette.types import Receive, Scope, Send

    from airflow_provider_rayagent.local.job_logs import Follower

NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012
"""Close codes: all was sent; the log ended early, open it again; the agent is stopping."""


class _Stream(Response):
    """A response of unknown length; a client that sees its end has all that there was to send.

    :param stopping: set when the server stops, which ends the stream early.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._stopping = stopping

    async def send_blocks(
        self, blocks: AsyncGenerator[bytes | None, None], receive: Receive, send: Send, *, idle: bytes
    ) -> bool:
        """Send blocks, and ``idle`` for none; return whether they came to their end."""

        async def send_block(block: bytes | None) -> None:
            await send({"type": "http.response.body", "body": block or idle, "more_body": True})

        async def client_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        return await relay(blocks, send_block, client_gone(), self._stopping.wait())

    async def end(self, send: Send) -> None:
        """Send the end."""
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(_Stream):
    """Server-sent events. While nothing is logged an empty line is sent now and then.

    An SSE comment would be the usual sign of life, but the agent's client takes a comment for a log line.
    """

    media_type = "text/event-stream"

    def __init__(self, follower: Follower, stopping: asyncio.Event) -> None:
        super().__init__(stopping)
        self._follower = follower

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        with closing(self._follower):
            await self.send_blocks(self._follower.blocks(), receive, send, idle=b"\n")
        # The last event says whether the log is whole.
        await self.end(send)


class TextStream(_Stream):
    """A whole log. Where it cannot be read to its end the response has none.

    :param first: the first block.
    :param rest: the others.
    """

    media_type = "text/plain"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> None:
        super().__init__(stopping)
        self._first = first
        self._rest = rest

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        if await self.send_blocks(self._blocks(), receive, send, idle=b""):
            await self.end(send)

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._rest) as rest:
            yield self._first
            async for block in rest:
                yield block


async def stream_to_websocket(websocket: WebSocket, follower: Follower, stopping: asyncio.Event) -> None:
    """Accept a WebSocket, send the events, close it with a code that says how it ended.

    :param stopping: set when the server stops.
    """
    last = b""

    async def send_events(events: bytes | None) -> None:
        nonlocal last
        last = events or last
        for message in messages(events or b""):
            await websocket.send({"type": "websocket.send", "text": message})

    async def client_gone() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    with closing(follower):
        await websocket.accept()
        ended = await relay(follower.blocks(), send_events, client_gone(), stopping.wait())
    complete = ended and last.endswith(COMPLETE)
    code = NORMAL if complete else SERVICE_RESTART if stopping.is_set() else INTERNAL_ERROR
    with contextlib.suppress(RuntimeError, OSError):
        await websocket.close(code)


async def relay(
    blocks: AsyncGenerator[bytes | None, None],
    send: Callable[[bytes | None], Awaitable[None]],
    *ends: Awaitable[Any],
) -> bool:
    """Send blocks one by one until they are over or one of ``ends`` is; close their generator in any case.

    :return: whether all were sent.
    """

    async def pump() -> None:
        async with aclosing(blocks):
            async for block in blocks:
                await send(block)

    pumping = asyncio.ensure_future(pump())
    tasks = [pumping, *(asyncio.ensure_future(end) for end in ends)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (LocalAgentError, OSError)):
            raise result
    return not pumping.cancelled() and pumping.exception() is None
