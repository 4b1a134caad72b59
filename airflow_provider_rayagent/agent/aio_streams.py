"""The asyncio log transports: thin, each knows its protocol and no rule of the tail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from typing import TYPE_CHECKING, Protocol

import anyio
import httpcore
import httpx

from airflow_provider_rayagent.agent import wire
from airflow_provider_rayagent.agent.aio import HTTPX_ERRORS
from airflow_provider_rayagent.agent.bodies import LogBodyDecoder
from airflow_provider_rayagent.agent.errors import RayAgentConnectionError, RayAgentResponseError
from airflow_provider_rayagent.agent.failures import as_agent_error
from airflow_provider_rayagent.agent.logstreams import (
    PING_SECONDS,
    READ_BYTES,
    StreamEndedError,
    check_log_answer,
    is_delimited,
)
from airflow_provider_rayagent.logs.events import Event, decode_event
from airflow_provider_rayagent.logs.frames import (
    CLOSE,
    PING,
    PONG,
    FrameDecoder,
    accept_key,
    frame,
    upgrade_headers,
)
from airflow_provider_rayagent.logs.sse import SseDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow_provider_rayagent.agent.aio import AsyncAgent

SEND_SECONDS = 5.0
"""How long at most a frame of ours may take to be handed over; of a few bytes, it waits for the event loop alone."""
MIN_WAIT = 0.01
MAX_READ_AHEAD = 64
"""Chunks that are read ahead; then the agent is made to wait."""
MAX_READ_AHEAD_BYTES = 1_000_000


class AsyncLogStream(Protocol):
    """A live log stream."""

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer is known to be alive.

        :raises StreamEndedError: once the stream has ended.
        """

    async def close(self) -> None:
        """Close the connection."""


class _ReadAhead:
    """A task that reads a source ahead, within bounds, so that a read can be given up without losing anything."""

    def __init__(self, source: AsyncIterator[bytes], what_ends_it: tuple[type[BaseException], ...]) -> None:
        self._what_ends_it = what_ends_it
        self._items: list[bytes] = []
        self._bytes = 0
        self._ended: str | None = None
        self._ready = asyncio.Event()
        self._space = asyncio.Event()
        self._task = asyncio.create_task(self._run(source))

    async def take(self, seconds: float) -> list[bytes]:
        """Return what has come, after at most ``seconds``.

        :raises StreamEndedError: once all has been returned and the source has ended.
        """
        if not self._ready.is_set():
            # Before Python 3.12, asyncio.wait_for loses a cancellation that comes just when what it waits for does.
            with anyio.move_on_after(seconds):
                await self._ready.wait()
        items, self._items, self._bytes = self._items, [], 0
        if not items and self._ended is not None:
            raise StreamEndedError(self._ended)
        if self._ended is None:
            self._ready.clear()
        self._space.set()
        return items

    async def cancel(self) -> None:
        """End the task."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self, source: AsyncIterator[bytes]) -> None:
        end = "ended by the agent"
        try:
            async for item in source:
                self._items.append(item)
                self._bytes += len(item)
                self._ready.set()
                if len(self._items) >= MAX_READ_AHEAD or self._bytes >= MAX_READ_AHEAD_BYTES:
                    self._space.clear()
                    await self._space.wait()
        except self._what_ends_it as error:
            end = str(error) or type(error).__name__
        self._ended = end
        self._ready.set()


class AsyncWebSocketStream:
    """The log stream over WebSocket, on a connection that ``httpx`` opened. Made by :meth:`open`."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, opened: contextlib.AsyncExitStack) -> None:
        self._stream = stream
        self._opened = opened
        self._frames = FrameDecoder()
        self._ping_due = time.monotonic() + PING_SECONDS

    @classmethod
    async def open(cls, agent: AsyncAgent, job_id: str) -> AsyncWebSocketStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        call = wire.get_job_logs(job_id)
        key = base64.b64encode(os.urandom(16)).decode()
        async with contextlib.AsyncExitStack() as opened:
            response = await _open(opened, agent, call, headers=upgrade_headers(key))
            if response.status_code != 101:
                await _check(call, response, agent)
                raise RayAgentResponseError(f"GET /{call.path} answered {response.status_code}, not a WebSocket.")
            if response.headers.get("sec-websocket-accept") != accept_key(key):
                raise RayAgentResponseError(f"GET /{call.path} answered with the handshake of another WebSocket.")
            return cls(response.extensions["network_stream"], opened.pop_all())

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life."""
        if self._frames.ended is not None:
            raise StreamEndedError(self._frames.ended)
        try:
            data = await self._receive(time.monotonic() + seconds)
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
            raise StreamEndedError(str(error) or type(error).__name__) from None
        if data is None:
            return [], False
        if not data:
            raise StreamEndedError("the connection was closed")
        messages = self._frames.feed(data)
        for payload in self._frames.take_pings():
            with contextlib.suppress(httpcore.NetworkError, httpcore.TimeoutException, OSError):
                await self._send(PONG, payload)
        return [decode_event(message) for message in messages], True

    async def _receive(self, until: float) -> bytes | None:
        """Return what comes next; a ping now and then makes a living peer show itself."""
        while True:
            now = time.monotonic()
            if now >= self._ping_due:
                self._ping_due = now + PING_SECONDS
                await self._send(PING, b"")
            try:
                return await self._stream.read(READ_BYTES, timeout=max(min(until, self._ping_due) - now, MIN_WAIT))
            except httpcore.ReadTimeout:
                if time.monotonic() >= until:
                    return None

    async def _send(self, opcode: int, payload: bytes) -> None:
        await self._stream.write(frame(opcode, payload, os.urandom(4)), timeout=SEND_SECONDS)

    async def close(self) -> None:
        """Say goodbye and close the connection without waiting for an answer."""
        try:
            with contextlib.suppress(httpcore.NetworkError, httpcore.TimeoutException, OSError):
                await self._send(CLOSE, b"\x03\xe8")
        finally:
            await self._opened.aclose()


class AsyncSseStream:
    """The log stream as server-sent events, with ``httpx``. Made by :meth:`open`."""

    def __init__(self, response: httpx.Response, opened: contextlib.AsyncExitStack) -> None:
        self._opened = opened
        self._decoder = SseDecoder()
        self._ahead = _ReadAhead(response.aiter_bytes(), (httpx.HTTPError, httpx.StreamError, OSError))

    @classmethod
    async def open(cls, agent: AsyncAgent, job_id: str) -> AsyncSseStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        call = wire.stream_job_logs(job_id)
        async with contextlib.AsyncExitStack() as opened:
            response = await _open(opened, agent, call)
            await _check(call, response, agent)
            return cls(response, opened.pop_all())

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether anything came."""
        chunks = await self._ahead.take(seconds)
        events = [event for chunk in chunks for event in self._decoder.feed(chunk)]
        return [decode_event(event.data, event.name) for event in events], bool(chunks)

    async def close(self) -> None:
        """Close the connection."""
        await self._ahead.cancel()
        await self._opened.aclose()


class AsyncWholeLog:
    """The whole log, read piece by piece, with ``httpx``. Made by :meth:`open`."""

    def __init__(self, agent: AsyncAgent, response: httpx.Response, opened: contextlib.AsyncExitStack) -> None:
        self._config = agent.config
        self._opened = opened
        self._chunks = response.aiter_bytes(READ_BYTES)
        self._decoder = LogBodyDecoder(response.headers.get("content-type", ""))
        self._at_end = False
        self.delimited = is_delimited(response.headers)
        """Whether the answer itself says where it ends, so that a cut one is noticed."""

    @classmethod
    async def open(cls, agent: AsyncAgent, job_id: str) -> AsyncWholeLog:
        """Ask for the log.

        :raises RayAgentError: if it can't be had.
        """
        call = wire.get_job_logs(job_id)
        async with contextlib.AsyncExitStack() as opened:
            response = await opened.enter_async_context(agent.opened(call))
            await _check(call, response, agent)
            return cls(agent, response, opened.pop_all())

    async def read(self) -> str | None:
        """Return the next piece of text, ``None`` at the end.

        :raises RayAgentError: if the answer breaks off.
        """
        if self._at_end:
            return None
        try:
            async for chunk in self._chunks:
                return self._decoder.feed(chunk)
            self._at_end = True
            return self._decoder.end()
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise as_agent_error(error, self._config, HTTPX_ERRORS) from None
        except ValueError as error:
            raise RayAgentConnectionError(f"The log's text broke off: {error}.") from None

    async def close(self) -> None:
        """Close the answer; its connection goes back to the pool if it was read whole."""
        await self._opened.aclose()


async def _open(
    opened: contextlib.AsyncExitStack, agent: AsyncAgent, call: wire.Call, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Return the response that a stream begins with; only its head has to come soon."""
    try:
        with anyio.fail_after(2 * agent.config.connect_timeout):
            return await opened.enter_async_context(agent.opened(call, stream=True, headers=headers))
    except TimeoutError as error:
        raise as_agent_error(error, agent.config, HTTPX_ERRORS) from None


async def _check(call: wire.Call, response: httpx.Response, agent: AsyncAgent) -> None:
    body = b"" if response.is_success else (await response.aread())[:READ_BYTES]
    check_log_answer(call, response.status_code, response.headers, body, agent.config.redact)


async def open_stream(agent: AsyncAgent, job_id: str, source: str) -> AsyncLogStream:
    """Open the log stream of a source.

    :raises RayAgentError: if it can't be opened.
    """
    if source == "websocket":
        return await AsyncWebSocketStream.open(agent, job_id)
    return await AsyncSseStream.open(agent, job_id)


async def read_whole_log(agent: AsyncAgent, job_id: str) -> str:
    """Return the whole log of a job.

    :raises RayAgentError: if it can't be had; tried again as calls are.
    """

    async def read() -> str:
        log = await AsyncWholeLog.open(agent, job_id)
        pieces = []
        try:
            while (text := await log.read()) is not None:
                pieces.append(text)
        finally:
            await log.close()
        return "".join(pieces)

    text: str = await agent.repeated(wire.get_job_logs(job_id), read)
    return text
