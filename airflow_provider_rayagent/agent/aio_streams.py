"""The asyncio log transports: thin, each knows its protocol and no rule of the tail."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from airflow_provider_rayagent.agent import answers, wire
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
from airflow_provider_rayagent.logs.sse import SseDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from airflow_provider_rayagent.agent.aio import AsyncAgent

PONG_SECONDS = 20.0
"""A WebSocket peer that does not answer a ping for so long is taken for dead."""
MAX_READ_AHEAD = 64
"""Messages or chunks that are read ahead; then the agent is made to wait."""
MAX_READ_AHEAD_BYTES = 1_000_000

_Data = TypeVar("_Data", str, bytes)


class AsyncLogStream(Protocol):
    """A live log stream."""

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer is known to be alive.

        :raises StreamEndedError: once the stream has ended.
        """

    async def close(self) -> None:
        """Close the connection."""


class _ReadAhead(Generic[_Data]):
    """A task that reads a source ahead, within bounds, so that a read can be given up without losing anything."""

    def __init__(self, source: AsyncIterator[_Data], what_ends_it: tuple[type[BaseException], ...]) -> None:
        self._what_ends_it = what_ends_it
        self._items: list[_Data] = []
        self._bytes = 0
        self._ended: str | None = None
        self._ready = asyncio.Event()
        self._space = asyncio.Event()
        self._task = asyncio.create_task(self._run(source))

    async def take(self, seconds: float) -> list[_Data]:
        """Return what has come, after at most ``seconds``.

        :raises StreamEndedError: once all has been returned and the source has ended.
        """
        if not self._ready.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ready.wait(), seconds)
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

    async def _run(self, source: AsyncIterator[_Data]) -> None:
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


class _Connect(connect):
    """A connect that follows no redirect, since the token must not go elsewhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class AsyncWebSocketStream:
    """The log stream over WebSocket, with ``websockets``. Made by :meth:`open`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ahead = _ReadAhead(_messages(connection), (WebSocketException, OSError))

    @classmethod
    async def open(cls, agent: AsyncAgent, job_id: str) -> AsyncWebSocketStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        config = agent.config
        call = wire.get_job_logs(job_id)
        await agent.client()
        try:
            connection = await _Connect(
                config.websocket_url(call.path),
                additional_headers=dict(config.headers),
                open_timeout=config.connect_timeout,
                ping_interval=PING_SECONDS,
                ping_timeout=PONG_SECONDS,
                close_timeout=0.2,
                max_size=None,
                ssl=agent.ssl_context,
            )
        except InvalidStatus as error:
            response = error.response
            answers.check_status(
                call, response.status_code, response.headers, bytes(response.body or b""), config.redact
            )
            raise RayAgentResponseError(f"GET /{call.path} answered {response.status_code}, not a WebSocket.") from None
        except (WebSocketException, OSError, ValueError, asyncio.TimeoutError) as error:
            raise as_agent_error(error, config) from None
        return cls(connection)

    async def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``; the peer is alive, since ``websockets`` pings it."""
        return [decode_event(data) for data in await self._ahead.take(seconds)], True

    async def close(self) -> None:
        """Close the connection."""
        await self._ahead.cancel()
        await self._connection.close()


async def _messages(connection: ClientConnection) -> AsyncIterator[bytes]:
    while True:
        yield await connection.recv(decode=False)


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
        config = agent.config
        call = wire.stream_job_logs(job_id)
        timeout = httpx.Timeout(None, connect=config.connect_timeout)
        async with contextlib.AsyncExitStack() as opened:
            opening = opened.enter_async_context(agent.opened(call, timeout=timeout))
            try:
                response = await asyncio.wait_for(opening, 2 * config.connect_timeout)
            except asyncio.TimeoutError as error:
                raise as_agent_error(error, config) from None
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
            raise as_agent_error(error, self._config) from None
        except ValueError as error:
            raise RayAgentConnectionError(f"The log's text broke off: {error}.") from None

    async def close(self) -> None:
        """Close the answer; its connection goes back to the pool if it was read whole."""
        await self._opened.aclose()


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
