"""The asyncio log transports. They implement the protocols; the rules of the tail are in the state machine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

import anyio
import httpcore

from airflow_provider_rayagent.stream.frames import CLOSE, NORMAL_CLOSURE, upgrade_headers
from airflow_provider_rayagent.stream.sse import SseDecoder
from airflow_provider_rayagent.transport import limits
from airflow_provider_rayagent.transport.aio import BROKEN, read_body
from airflow_provider_rayagent.transport.log_responses import (
    CLOSE_SECONDS,
    READ_BYTES,
    SEND_SECONDS,
    SLICE_SECONDS,
    LogBuffer,
    LogText,
    StreamEndedError,
    WebSocketReader,
    check_log_response,
    check_upgrade,
    control_frame,
    new_key,
    raise_if_ended,
    reason_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from airflow_provider_rayagent.services.call import Call
    from airflow_provider_rayagent.services.service import DecodeEvent, OpenLiveLog
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.transport.aio import AsyncAgent

MIN_WAIT = 0.01
MAX_READ_AHEAD = 64
"""Chunks to read ahead; then the agent has to wait."""
MAX_READ_AHEAD_BYTES = 1_000_000
_BROKEN_SOCKET = (httpcore.NetworkError, httpcore.TimeoutException, OSError)


class AsyncLogStream(Protocol):
    """A live log stream."""

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether the peer is alive.

        :raises StreamEndedError: once the stream has ended.
        """

    async def close(self) -> None:
        """Close the connection."""


class _ReadAhead:
    """A task that reads a body ahead, within limits, so that a read can time out without losing data.

    :param source: the body.
    :param opened: closes the response.
    """

    def __init__(self, source: AsyncIterator[bytes], opened: contextlib.AsyncExitStack) -> None:
        self._opened = opened
        self._items: list[bytes] = []
        self._bytes = 0
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._ready = asyncio.Event()
        self._space = asyncio.Event()
        self._task = asyncio.create_task(self._run(source))

    async def take(self, seconds: float) -> list[bytes]:
        """Return the data received, after at most ``seconds``.

        :raises StreamEndedError: once the body has ended and all data was returned; its cause is the error, if any.
        """
        if not self._ready.is_set():
            # Before Python 3.12, asyncio.wait_for loses a cancellation that coincides with the awaited event.
            with anyio.move_on_after(seconds):
                await self._ready.wait()
        items, self._items, self._bytes = self._items, [], 0
        if not items and self._ended:
            error = self._error
            raise StreamEndedError(reason_of(error) if error else "closed by the server") from error
        if not self._ended:
            self._ready.clear()
        self._space.set()
        return items

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
                if not self._closed and (len(self._items) >= MAX_READ_AHEAD or self._bytes >= MAX_READ_AHEAD_BYTES):
                    self._space.clear()
                    await self._space.wait()
        except BROKEN as error:
            self._error = error
        self._ended = True
        self._ready.set()


class AsyncWebSocketStream:
    """The log stream over WebSocket, on a connection that ``httpx`` opened. Created by :meth:`open`."""

    def __init__(
        self, decode: DecodeEvent, stream: httpcore.AsyncNetworkStream, opened: contextlib.AsyncExitStack
    ) -> None:
        self._reader = WebSocketReader(decode, time.monotonic())
        self._stream = stream
        self._opened = opened

    @classmethod
    async def open(cls, agent: AsyncAgent, call: Call, decode: DecodeEvent) -> AsyncWebSocketStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        key = new_key()
        async with contextlib.AsyncExitStack() as opened:
            response = await opened.enter_async_context(agent.opened(call, stream=True, headers=upgrade_headers(key)))
            if response.status_code != 101:
                await _check(call, response, agent)
            check_upgrade(call, response.status_code, response.headers, key)
            return cls(decode, response.extensions["network_stream"], opened.pop_all())

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether the peer is alive."""
        self._reader.raise_if_ended()
        try:
            data = await self._receive(time.monotonic() + seconds)
            if data is None:
                return [], False
            events, pong = self._reader.feed(data)
            if pong is not None:
                await self._stream.write(pong, timeout=SEND_SECONDS)
        except _BROKEN_SOCKET as error:
            raise StreamEndedError(reason_of(error)) from None
        return events, True

    async def _receive(self, until: float) -> bytes | None:
        """Return the next data, or ``None`` if there is none in time. Send pings, to detect a dead peer."""
        while True:
            now = time.monotonic()
            if ping := self._reader.take_ping(now):
                await self._stream.write(ping, timeout=SEND_SECONDS)
            seconds = max(min(until, self._reader.ping_due) - now, MIN_WAIT)
            try:
                return await self._stream.read(READ_BYTES, timeout=seconds)
            except httpcore.ReadTimeout:
                if time.monotonic() >= until:
                    return None

    async def close(self) -> None:
        """Send a close frame and close the connection, without waiting for a response."""
        try:
            with contextlib.suppress(*_BROKEN_SOCKET):
                await self._stream.write(control_frame(CLOSE, NORMAL_CLOSURE), timeout=CLOSE_SECONDS)
        finally:
            await self._opened.aclose()


class AsyncSseStream:
    """The log stream as server-sent events, with ``httpx``. Created by :meth:`open`."""

    def __init__(self, decode: DecodeEvent, response: httpx.Response, opened: contextlib.AsyncExitStack) -> None:
        self._decode = decode
        self._decoder = SseDecoder()
        self._ahead = _ReadAhead(response.aiter_bytes(), opened)

    @classmethod
    async def open(cls, agent: AsyncAgent, call: Call, decode: DecodeEvent) -> AsyncSseStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        async with contextlib.AsyncExitStack() as opened:
            response = await opened.enter_async_context(agent.opened(call, stream=True))
            await _check(call, response, agent)
            return cls(decode, response, opened.pop_all())

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether any data was received."""
        raise_if_ended(self._decoder)
        chunks = await self._ahead.take(seconds)
        events = [event for chunk in chunks for event in self._decoder.feed(chunk)]
        return [self._decode(event.data, event.name) for event in events], bool(chunks)

    async def close(self) -> None:
        """Close the connection."""
        await self._ahead.close()


class AsyncWholeLog:
    """The whole log, read incrementally with ``httpx``. Created by :meth:`open`."""

    def __init__(self, agent: AsyncAgent, response: httpx.Response, opened: contextlib.AsyncExitStack) -> None:
        self._agent = agent
        self._ahead = _ReadAhead(response.aiter_bytes(), opened)
        self._budget = limits.WaitBudget(limits.LOG)
        self.text = LogText(agent.config.service, response.headers)

    @classmethod
    async def open(cls, agent: AsyncAgent, call: Call) -> AsyncWholeLog:
        """Request the log.

        :raises RayAgentError: if it cannot be read.
        """
        async with contextlib.AsyncExitStack() as opened:
            response = await opened.enter_async_context(agent.opened(call))
            await _check(call, response, agent)
            return cls(agent, response, opened.pop_all())

    async def read(self) -> str | None:
        """Return the next chunk of text, an empty one after :data:`SLICE_SECONDS` without data, or ``None`` at the end.

        :raises RayAgentError: if the response is incomplete or too slow.
        """
        if self.text.has_ended:
            return None
        began = time.monotonic()
        try:
            body = b"".join(await self._ahead.take(min(self._budget.left, SLICE_SECONDS)))
        except StreamEndedError as ended:
            if ended.__cause__ is not None:
                raise self._agent.error(ended.__cause__) from None
            return self.text.end()
        except TimeoutError as error:
            raise self._agent.error(error) from None
        self._budget.spend(time.monotonic() - began, len(body))
        return self.text.feed(body)

    async def close(self) -> None:
        """Close the response; its connection returns to the pool if the body was read completely."""
        await self._ahead.close()


async def _check(call: Call, response: httpx.Response, agent: AsyncAgent) -> None:
    """Validate a response; the body is read only for an error status."""
    body = b"" if response.is_success else await read_body(call, response)
    check_log_response(call, response.status_code, response.headers, body, agent.config)


async def open_stream(agent: AsyncAgent, command: OpenLiveLog) -> AsyncLogStream:
    """Open a live log stream.

    :raises RayAgentError: if it can't be opened.
    """
    stream = AsyncWebSocketStream if command.source == "websocket" else AsyncSseStream
    return await stream.open(agent, command.call, command.decode)


async def read_whole_log(agent: AsyncAgent, job_id: JobId) -> str:
    """Return the whole log of a job. Retries like a call.

    :raises RayAgentError: if it cannot be read.
    """
    call = await agent.send(agent.config.service.locate_log(job_id))
    if call is None:
        return ""

    async def read() -> str:
        log, buffer = await AsyncWholeLog.open(agent, call), LogBuffer(job_id)
        try:
            while (text := await log.read()) is not None:
                buffer.add(text)
        finally:
            await log.close()
        return buffer.text

    text: str = await agent.repeated(call, read)
    return text
