"""A name server that does not answer: what waits for it, and what does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentUnreachableError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from tests.scripted import Job, ScriptedAgent

if TYPE_CHECKING:
    import pytest

HANGS = "hangs.test"
GET_JOB = AGENT.get_job(JobId("j1"))


async def test_it_holds_one_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, lookups, look_up = threading.Event(), [], socket.getaddrinfo

    def hang(host: Any, *more: Any, **options: Any) -> Any:
        if host == HANGS:
            lookups.append(host)
            answers.wait()
        return look_up(host, *more, **options)

    async def ask(host: str, connect_timeout: float) -> Any:
        async with AsyncServiceClient(read_config(host=host, extra={"connect_timeout": connect_timeout})) as agent:
            polls = [asyncio.create_task(agent.send(GET_JOB, tries=1)) for _ in range(4)]
            return await asyncio.gather(*polls, return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with ScriptedAgent(Job()) as server:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        try:
            assert {type(error) for error in await ask(f"http://{HANGS}", 0.3)} == {RayAgentUnreachableError}
            assert lookups == [HANGS]
            found = await ask(server.url.replace("127.0.0.1", "localhost"), MAX_TIMEOUT)
            assert [job["status"] for job in found] == ["SUCCEEDED"] * 4
        finally:
            # Before the event loop ends, since it waits for its threads.
            answers.set()
