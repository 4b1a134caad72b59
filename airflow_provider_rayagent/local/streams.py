"""The two forms in which a job's live log goes out: server-sent events and a WebSocket."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fastapi.responses import Response

from airflow_provider_rayagent.local.follow import Event, as_json, relay

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator

    from fastapi import WebSocket
    from starlette.types import Receive, Scope, Send

    Events = AsyncGenerator[Event | None, None]

NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012
"""Close codes: all was sent; the log ended early, open it again; the agent is stopping."""


class EventStream(Response):
    """Server-sent events. While nothing is logged an empty line is sent now and then.

    An SSE comment would be the usual sign of life, but the agent's client takes a comment for a log line.

    :param stopping: set when the server stops, which ends the stream without ``complete``.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Events, stopping: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._stopping = stopping

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def send_event(event: Event | None) -> None:
            # ASCII, because clients cut lines at other separators too, such as U+2028.
            data = f"data: {as_json(event, ascii_only=True)}\n\n" if event else "\n"
            await send({"type": "http.response.body", "body": data.encode(), "more_body": True})

        async def client_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await relay(self._events, send_event, client_gone(), self._stopping.wait())
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def stream_to_websocket(websocket: WebSocket, events: Events, stopping: asyncio.Event) -> None:
    """Accept a WebSocket, send the events, close it with a code that says how it ended.

    :param stopping: as for :class:`EventStream`.
    """

    async def send_event(event: Event | None) -> None:
        if event:
            await websocket.send({"type": "websocket.send", "text": as_json(event)})

    async def client_gone() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    await websocket.accept()
    complete = await relay(events, send_event, client_gone(), stopping.wait())
    code = NORMAL if complete else SERVICE_RESTART if stopping.is_set() else INTERNAL_ERROR
    with contextlib.suppress(RuntimeError, OSError):
        await websocket.close(code)
