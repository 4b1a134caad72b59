"""Responses with logs: live logs as server-sent events or over a WebSocket, whole logs as text."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import WebSocketDisconnect
from fastapi.responses import Response

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.log_events import COMPLETE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from fastapi import WebSocket
    from starlette.types import Receive, Scope, Send

BlockT = TypeVar("BlockT")

CLIENT_GONE = (OSError, WebSocketDisconnect)
"""What a send raises if the client has closed the connection: Uvicorn the first, Starlette the second."""
NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012
"""Close codes: the log is complete; it ended early and can be opened again; the agent is stopping."""
KEEP_ALIVE_SECONDS = 15.0
"""Seconds between two keep-alives of server-sent events."""


class _Stream(Response):
    """A response of unknown length, which is terminated properly only if everything was sent.

    :param stopping: set when the server stops; the stream then ends early.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        # Starlette sets it to 0 for the empty body (`Response.init_headers`); uvicorn rejects a longer one.
        del self.headers["content-length"]
        self._stopping = stopping

    async def send_blocks(
        self, blocks: AsyncGenerator[bytes, None], receive: Receive, send: Send, keep_alive: bytes = b""
    ) -> bool:
        """Send blocks, and ``keep_alive`` from time to time; return whether all were sent."""

        async def send_block(block: bytes) -> None:
            # Uvicorn omits an empty chunk, which would end the body (RFC 9112, 7.1); `keep_alive` can be empty.
            await send({"type": "http.response.body", "body": block, "more_body": True})

        async def send_keep_alives() -> None:
            while True:
                await asyncio.sleep(KEEP_ALIVE_SECONDS)
                await send_block(keep_alive)

        async def wait_for_disconnect() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        # Uvicorn's `send` does nothing for an HTTP client that has left; only `receive` tells that.
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        return await relay(blocks, send_block, send_keep_alives(), wait_for_disconnect(), self._stopping.wait())

    async def end(self, send: Send) -> None:
        """Terminate the response properly."""
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(_Stream):
    """Server-sent events, with an empty line as a keep-alive.

    An SSE comment would be the usual keep-alive, but the agent's client treats comments as log lines.

    :param events: see :meth:`~airflow_provider_rayagent.local.job_logs.JobLogs.follow`.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[list[str], None], stopping: asyncio.Event) -> None:
        super().__init__(stopping)
        self._events = events

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await self.send_blocks(self._blocks(), receive, send, keep_alive=b"\n")
        # The last event shows whether the log is complete, so the response always ends properly.
        await self.end(send)

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._events) as found:
            async for events in found:
                # A block consists of whole events, so a keep-alive, which is sent between blocks, is never inside one.
                yield "".join(f"data: {event}\n\n" for event in events).encode("ascii")


class TextStream(_Stream):
    """A whole log as text. If it cannot be read completely, the response is aborted.

    :param first: the first block.
    :param rest: the other blocks.
    """

    media_type = "text/plain"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> None:
        super().__init__(stopping)
        self._first = first
        self._rest = rest

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        # Otherwise uvicorn closes the connection without the last chunk, which tells the client that the log is
        # incomplete (RFC 9112, section 8).
        if await self.send_blocks(self._blocks(), receive, send):
            await self.end(send)

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._rest) as rest:
            yield self._first
            async for block in rest:
                yield block


async def stream_to_websocket(
    websocket: WebSocket, events: AsyncGenerator[list[str], None], stopping: asyncio.Event
) -> None:
    """Accept a WebSocket, send the events, and close it with a code for how the log ended.

    :param stopping: set when the server stops.
    """
    last = ""

    async def send_events(events: list[str]) -> None:
        nonlocal last
        for last in events:
            await websocket.send({"type": "websocket.send", "text": last})

    async def wait_for_disconnect() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    # Also if the accept fails: an open log occupies one of the streams that JobLogs permits.
    async with aclosing(events):
        await websocket.accept()
        all_sent = await relay(events, send_events, wait_for_disconnect(), stopping.wait())
    complete = all_sent and last == COMPLETE
    code = NORMAL if complete else SERVICE_RESTART if stopping.is_set() else INTERNAL_ERROR
    # Starlette raises RuntimeError if an earlier send has found that the client has left (`WebSocket.send`).
    with contextlib.suppress(RuntimeError, *CLIENT_GONE):
        await websocket.close(code)


async def relay(
    blocks: AsyncGenerator[BlockT, None],
    send: Callable[[BlockT], Awaitable[None]],
    *stop_signals: Awaitable[Any],
) -> bool:
    """Send blocks until there are no more or one of ``stop_signals`` is done; always close their generator.

    :return: whether all blocks were sent.
    """

    async def pump() -> None:
        async with aclosing(blocks):
            async for block in blocks:
                await send(block)

    pumping = asyncio.ensure_future(pump())
    tasks = [pumping, *(asyncio.ensure_future(each) for each in stop_signals)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # Awaited, so that the generator is closed, and its place free, when this returns.
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        # The CancelledError of the tasks that were cancelled above is not an Exception.
        if isinstance(result, Exception) and not isinstance(result, (LocalAgentError, *CLIENT_GONE)):
            raise result
    return not pumping.cancelled() and pumping.exception() is None
