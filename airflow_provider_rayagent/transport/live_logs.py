"""The live log of a job, over WebSocket or server-sent events. One text for both transports.

Imported when a stream is opened, since it loads ``websocket-client``.
"""

from __future__ import annotations

import base64
import os
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.stream.frames import (
    CLOSE,
    NORMAL_CLOSURE,
    PING,
    PONG,
    FrameDecoder,
    accept_key,
    control_frame,
    upgrade_headers,
)
from airflow_provider_rayagent.stream.sse import SseDecoder
from airflow_provider_rayagent.transport.log_responses import (
    SEND_SECONDS,
    StreamEndedError,
    check_response,
    end_of_stream,
    read_ahead,
)

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call
    from airflow_provider_rayagent.services.service import DecodeEvent, OpenLiveLog
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.transport.service_client import (
        ReadAhead,
        Response,
        ServiceClient,
        UpgradedConnection,
    )

PING_SECONDS = 10.0
"""Interval between two WebSocket pings, which detect a dead peer."""
CLOSE_SECONDS = 0.2
"""Timeout for sending the close frame."""


class WebSocketStream:
    """The log stream over WebSocket.

    :param opened: closes the connection.
    """

    def __init__(self, decode: DecodeEvent, connection: UpgradedConnection, opened: AsyncExitStack) -> None:
        self._decode = decode
        self._frames = FrameDecoder()
        self._connection = connection
        self._opened = opened
        self._ping_due = time.monotonic() + PING_SECONDS

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether the peer is alive.

        :raises StreamEndedError: once the stream has ended.
        """
        # Not after feed(): the messages before the end, which it returns together with it, come first.
        _raise_if_ended(self._frames)
        try:
            data = await self._receive(time.monotonic() + seconds)
            if data is None:
                return [], False
            if not data:
                raise StreamEndedError("the connection was closed")
            events = [self._decode(message) for message in self._frames.feed(data)]
            ping = self._frames.take_ping()
            if ping is not None and self._frames.ended is None:
                await self._connection.send(control_frame(PONG, ping), SEND_SECONDS)
        except self._connection.broken as error:
            # If sending the pong fails, the messages of this read are dropped. The next stream repeats them.
            raise end_of_stream(error) from None
        return events, True

    async def _receive(self, until: float) -> bytes | None:
        """Return the next data, or ``None`` if there is none in time. Send pings, to detect a dead peer."""
        while True:
            now = time.monotonic()
            if now >= self._ping_due:
                self._ping_due = now + PING_SECONDS
                await self._connection.send(control_frame(PING), SEND_SECONDS)
            data = await self._connection.receive(max(min(until, self._ping_due) - now, 0.0))
            if data is not None or time.monotonic() >= until:
                return data

    async def aclose(self) -> None:
        """Send a close frame and close the connection, without waiting for a response."""
        try:
            # Some peers never answer a close frame, such as Ray's own log tail (2.50 and 2.60).
            with suppress(*self._connection.broken):
                await self._connection.send(control_frame(CLOSE, NORMAL_CLOSURE), CLOSE_SECONDS)
        finally:
            await self._opened.aclose()


class SseStream:
    """The log stream as server-sent events."""

    def __init__(self, decode: DecodeEvent, ahead: ReadAhead) -> None:
        self._decode = decode
        self._decoder = SseDecoder()
        self._ahead = ahead

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether any data was received.

        :raises StreamEndedError: once the stream has ended.
        """
        _raise_if_ended(self._decoder)
        data = await self._ahead.take(seconds)
        events = self._decoder.feed(data) if data else []
        return [self._decode(event.data, event.name) for event in events], bool(data)

    async def aclose(self) -> None:
        await self._ahead.close()


LogStream: TypeAlias = WebSocketStream | SseStream
"""A live log stream."""


async def open_stream(client: ServiceClient, opening: OpenLiveLog) -> LogStream:
    """Open a live log stream.

    :raises RayAgentError: if it can't be opened.
    """
    call = opening.call
    key = base64.b64encode(os.urandom(16)).decode()
    headers = upgrade_headers(key) if opening.source == "websocket" else None
    async with AsyncExitStack() as opened:
        response = await opened.enter_async_context(client.opened(call, stream=True, headers=headers))
        if response.status != 101 or headers is None:
            await check_response(client, call, response)
        if headers is None:
            return SseStream(opening.decode, await read_ahead(response, opened, is_stream=True))
        _check_upgrade(call, response, key)
        # pop_all() comes last: until then, the exit stack closes the response if something fails.
        return WebSocketStream(opening.decode, response.upgraded(), opened.pop_all())


def _raise_if_ended(decoder: FrameDecoder | SseDecoder) -> None:
    if decoder.ended is not None:
        raise StreamEndedError(decoder.ended, too_long=decoder.too_long)


def _check_upgrade(call: Call, response: Response, key: str) -> None:
    """Raise :class:`RayAgentResponseError` unless a response completes the handshake with ``key``."""
    if response.status != 101:
        raise RayAgentResponseError(f"{call.name} answered {response.status}, not a WebSocket.")
    # RFC 6455, section 4.1, requires this check: another value does not come from a server that has read this request.
    if response.headers.get("sec-websocket-accept") != accept_key(key):
        raise RayAgentResponseError(f"{call.name} answered the WebSocket handshake with a wrong Sec-WebSocket-Accept.")
