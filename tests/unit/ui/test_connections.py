"""The transport of a connection, which the requests of an open page share."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from airflow_provider_rayagent.transport import pool
from airflow_provider_rayagent.ui import user_connections
from airflow_provider_rayagent.ui.user_connections import PageHook
from tests.scripted import Job, ScriptedAgent
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    import pytest

    from tests.unit.support import Connect


async def test_it_stays_open_for_the_next_request_and_not_for_ever(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        agents = []
        for seconds in (PATIENCE, 0.1):
            monkeypatch.setattr(user_connections, "LINGER_SECONDS", seconds)
            async with PageHook() as hook:
                await hook.get_job("j1")
                agents.append(await hook.get_async_conn())
        assert agents[0] is agents[1]
        _, lingering = await asyncio.wait(user_connections._lingering, return_when=asyncio.FIRST_COMPLETED)
        (shared,) = pool._pools[asyncio.get_running_loop()]
        assert shared.users == 1
        # As at the end of the server.
        for task in lingering:
            task.cancel()
        await asyncio.wait(lingering)
        assert pool._pools[asyncio.get_running_loop()] == []


async def test_a_long_list_is_parsed_with_rests(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(user_connections, "rest", lambda: threads.append(threading.current_thread()))
    monkeypatch.setattr(user_connections, "LINGER_SECONDS", 0.0)
    with ScriptedAgent(*(Job(job_id=f"j{number}") for number in range(500))) as agent:
        connect(agent)
        async with PageHook() as hook:
            assert len(await hook.list_jobs()) == 500
        await asyncio.wait(user_connections._lingering)
    assert threads == [threading.current_thread()] * 500
