"""What a transport library raised becomes an error of ours, whatever the caller is doing meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import requests

from airflow_provider_rayagent.agent import wire
from airflow_provider_rayagent.agent.aio import AsyncAgent
from airflow_provider_rayagent.agent.blocking import BlockingAgent
from airflow_provider_rayagent.agent.config import read_config
from airflow_provider_rayagent.agent.errors import (
    RayAgentConnectionError,
    RayAgentError,
)
from airflow_provider_rayagent.agent.streams import WebSocketStream
from tests.scripted import Job, Play, Reset, ScriptedAgent

if TYPE_CHECKING:
    from airflow_provider_rayagent.agent.config import AgentConfig

POST = "POST jobs/j1/stop/"
HANDLED = [
    ConnectionRefusedError(),
    socket.gaierror(),
    ssl.SSLCertVerificationError(),
    requests.ConnectTimeout(),
    httpx.ConnectTimeout("x"),
]
EXPECTED = (OSError, httpx.HTTPError)


def fail(error: Exception) -> None:
    raise error


def stop_blocking(config: AgentConfig, handled: Exception) -> None:
    """Ask for a job to be stopped while an exception is being handled."""
    with BlockingAgent(config, sleep=lambda _: None) as agent:
        try:
            fail(handled)
        except EXPECTED:
            agent.send(wire.stop_job("j1"))


def stop_with_asyncio(config: AgentConfig, handled: Exception) -> None:
    """Do the same in an event loop."""

    async def run() -> None:
        async with AsyncAgent(config, sleep=lambda _: asyncio.sleep(0)) as agent:
            try:
                fail(handled)
            except EXPECTED:
                await agent.send(wire.stop_job("j1"))

    asyncio.run(run())


@pytest.mark.parametrize("handled", HANDLED, ids=ascii)
@pytest.mark.parametrize("stop", [stop_blocking, stop_with_asyncio])
def test_a_post_in_an_except_block_is_sent_once(stop: object, handled: Exception) -> None:
    """Python makes the exception that is being handled the context of the one that the transport raises."""
    with ScriptedAgent(Job(status="RUNNING"), answers={POST: [Play(Reset())]}) as server:
        with pytest.raises(RayAgentError) as caught:
            stop(read_config(host=server.url), handled)  # type: ignore[operator]
        assert len(server.of(POST)) == 1
    assert type(caught.value) is RayAgentConnectionError


def test_a_stream_that_is_opened_in_an_except_block_says_what_is_wrong_with_it() -> None:
    with (
        ScriptedAgent(Job(), connects=[Play(Reset())]) as server,
        BlockingAgent(read_config(host=server.url)) as agent,
    ):
        try:
            fail(ConnectionRefusedError())
        except EXPECTED:
            with pytest.raises(RayAgentError, match=r"The connection to .* failed"):
                WebSocketStream(agent, "j1")
