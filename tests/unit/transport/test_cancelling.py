"""What is cancelled ends, and leaves no connection open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.aio_logs import ReadAheadTask
from tests.scripted import Play, Reset, ScriptedAgent, Silence
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def body(came: asyncio.Event) -> AsyncIterator[bytes]:
    await came.wait()
    yield b"data"


def test_a_cancellation_that_coincides_with_data_is_not_lost() -> None:
    """Otherwise a trigger would never end."""

    async def run() -> None:
        came = asyncio.Event()
        ahead = ReadAheadTask(body(came), contextlib.AsyncExitStack())
        reading = asyncio.create_task(ahead.take(60.0))
        await asyncio.sleep(0.01)
        came.set()
        while not ahead._ready.is_set():  # noqa: ASYNC110 - the next turn of the loop is what counts
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await ahead.take(1.0) == b"data"
        await ahead.close()

    asyncio.run(run())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cancelled_call_leaks_no_connection(scheme: str) -> None:
    async def run(server: ScriptedAgent) -> None:
        async with AsyncServiceClient(read_config(host=server.url.replace("http", scheme), token=TOKEN)) as agent:
            call = asyncio.create_task(agent.send(AGENT.health_check()))
            # The client waits for the response, or for the TLS handshake.
            await server.reached(lambda: server.requests if scheme == "http" else server.bytes_received)
            await cancel(call)
            await server.reached(lambda: server.open_connections == 0)

    silence = Play(Silence())
    with ScriptedAgent(answers={"GET health/": [silence]}, connects=[silence] if scheme == "https" else []) as server:
        asyncio.run(run(server))


def test_a_cancelled_connect_leaks_no_connection() -> None:
    async def run(server: ScriptedAgent) -> None:
        async with AsyncServiceClient(read_config(host=server.url, token=TOKEN)) as agent:
            # Creates the client's pool, and leaves no connection in it.
            with pytest.raises(RayAgentConnectionError):
                await agent.send(AGENT.list_nodes(), tries=1)
            for turns in range(40):
                call = asyncio.create_task(agent.send(AGENT.health_check()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                await cancel(call)
                await server.reached(lambda: server.open_connections == 0)
            assert server.connections > 2

    with ScriptedAgent(answers={"GET nodes/": [Play(Reset())], "GET health/": [Play(Silence())]}) as server:
        asyncio.run(run(server))


async def cancel(call: asyncio.Task[Any]) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
