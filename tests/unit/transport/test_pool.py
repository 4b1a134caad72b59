"""Asyncio hooks for the same connection share one transport, and its connection pool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.exceptions import RayAgentConfigError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from airflow_provider_rayagent.transport import pool
from tests.scripted import Job, ScriptedAgent

if TYPE_CHECKING:
    from airflow_provider_rayagent.transport.aio import AsyncServiceClient
    from tests.unit.support import Connect

CONFIG = read_config(host="http://127.0.0.1:1", token="t")


async def test_hooks_for_one_connection_share_the_transport_until_the_last_is_closed(connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        connect(agent, "the_same")
        hooks = [RayAgentAsyncHook(), RayAgentAsyncHook(), RayAgentAsyncHook("the_same")]
        transports = {id(await hook.get_async_conn()) for hook in hooks}
        assert len(transports) == 1
        for hook in hooks:
            await hook.get_job("j1")
        assert agent.connections == 1
        for hook in hooks[:-1]:
            await hook.close()
        await hooks[-1].get_job("j1")
        assert agent.connections == 1
        await hooks[-1].close()
        await agent.reached(lambda: agent.open_connections == 0)


async def test_concurrent_requests_do_not_wait_for_each_other(connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        async with RayAgentAsyncHook() as one, RayAgentAsyncHook() as other:
            jobs = await asyncio.gather(*(hook.get_job("j1") for hook in (one, other) for _ in range(20)))
        assert {job["submission_id"] for job in jobs} == {"j1"}
        assert len(agent.requests) == 40


async def test_a_hook_opened_by_two_tasks_concurrently_leases_one_transport(connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        hook = RayAgentAsyncHook()
        one, other = await asyncio.gather(hook.get_async_conn(), hook.get_async_conn())
        assert one is other
        await hook.close()
        assert pool.lease(one.config) is not one


@pytest.mark.parametrize(
    "change",
    [
        {"token": "other"},
        {"host": "http://127.0.0.1:2"},
        {"extra": {"read_timeout": 9}},
        {"token": None, "extra": {"token_file": "/t"}},
    ],
)
async def test_another_connection_has_its_own_transport(change: dict[str, Any]) -> None:
    one = pool.lease(CONFIG)
    other = pool.lease(read_config(**{"host": "http://127.0.0.1:1", "token": "t", **change}))
    assert one is not other
    await pool.release(one)
    assert pool.lease(other.config) is other


def test_another_event_loop_has_its_own_transport() -> None:
    async def run() -> AsyncServiceClient:
        return pool.lease(CONFIG)

    assert asyncio.run(run()) is not asyncio.run(run())


async def test_a_hook_can_be_closed_twice_and_used_again(connect: Connect) -> None:
    with ScriptedAgent(Job()) as agent:
        connect(agent)
        hook = RayAgentAsyncHook()
        await hook.close()
        for _ in range(2):
            assert (await hook.get_job("j1"))["status"] == "SUCCEEDED"
            await hook.close()
            await hook.close()
            await agent.reached(lambda: agent.open_connections == 0)


async def test_an_invalid_connection_is_reported_on_first_use(connect: Connect) -> None:
    connect("ftp://x")
    async with RayAgentAsyncHook() as hook:
        with pytest.raises(RayAgentConfigError):
            await hook.get_job("j1")
