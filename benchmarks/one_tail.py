"""Tail jobs with one client in a separate process.

Each line of the standard input has a protocol and the id of a job; for each, a line of JSON with the times is printed.
The lines are counted and discarded. Our hooks use the Airflow connection ``rayagent_default`` to the same agent. The
time is measured from the call to the last expected line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.tail_driver import tail_settings
from benchmarks.feeder import WARM_UP, WARM_UP_LINES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

UNLIMITED = 1 << 60
SETTLED = 2_000
"""Items after which ours has detected how messages form the log, and sends no more requests for that."""


def _theirs(url: str, name: str) -> Any:
    agent, network = map(importlib.import_module, ("synapse_sdk.clients.agent", "synapse_sdk.utils.network"))
    client = getattr(agent, name)(base_url=url.rstrip("/"), agent_token="t")
    client.stream_limits = network.StreamLimits(
        max_messages=UNLIMITED, max_lines=UNLIMITED, max_bytes=UNLIMITED, max_message_size=UNLIMITED
    )
    if not hasattr(client, "_get_url"):
        client._get_url = str  # The asyncio tails of 2026.2.17 call this method, which does not exist.
    return client


BATCHES = "ours-batches"
BLOCKING: dict[str, Callable[[str], Any]] = {
    "ours": lambda _: RayAgentHook(),
    "synapse_sdk": lambda url: _theirs(url, "AgentClient"),
}
ASYNCHRONOUS: dict[str, Callable[[str], Any]] = {
    "ours-async": lambda _: RayAgentAsyncHook(),
    BATCHES: lambda _: RayAgentAsyncHook(),
    "synapse_sdk-async": lambda url: _theirs(url, "AsyncAgentClient"),
}


def take(items: Iterator[str], awaited: int) -> None:
    """Take a number of items."""
    taken = sum(1 for _ in islice(items, awaited))
    if taken != awaited:
        raise AssertionError(f"{awaited - taken} items are missing")


async def take_async(items: AsyncGenerator[str, None], awaited: int) -> None:
    """Take a number of items."""
    async with aclosing(items):
        async for _ in items:
            awaited -= 1
            if not awaited:
                return
    raise AssertionError(f"{awaited} items are missing")


async def take_batches(hook: RayAgentAsyncHook, job_id: str, protocol: str, awaited: int) -> None:
    """Take a number of lines in batches, as a trigger does."""
    follower = await hook.follow_job(job_id, tail_settings(protocol))
    async with aclosing(follower.items()) as found:
        async for items in found:
            awaited -= len(lines_in(items))
            if awaited <= 0:
                return


async def measured_async(client: Any, protocol: str, job_id: str, items: int, *, batches: bool) -> dict[str, float]:
    """Tail the warm-up job, then ``job_id``; return the elapsed and the CPU seconds of the latter."""

    async def tail(job_id: str, items: int) -> None:
        if batches:
            await take_batches(client, job_id, protocol, items)
        else:
            await take_async(client.tail_job_logs(job_id, protocol=protocol), items)

    await tail(WARM_UP, WARM_UP_LINES)
    begun, cpu = time.perf_counter(), time.process_time()
    await tail(job_id, items)
    return {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}


def measured(client: Any, protocol: str, job_id: str, items: int) -> dict[str, float]:
    """Blocking version of :func:`measured_async`; ``later``: CPU seconds after the first :data:`SETTLED` items."""
    take(client.tail_job_logs(WARM_UP, protocol=protocol), WARM_UP_LINES)
    begun, cpu = time.perf_counter(), time.process_time()
    tail = client.tail_job_logs(job_id, protocol=protocol)
    take(tail, SETTLED)
    settled = time.process_time()
    take(tail, items - SETTLED)
    ended = time.process_time()
    return {"seconds": time.perf_counter() - begun, "cpu": ended - cpu, "later": ended - settled}


def tail(who: str, url: str, protocol: str, job_id: str) -> dict[str, float]:
    """Tail a job; ours yields lines, theirs yields messages."""
    _, lines, size = job_id.split("-")
    items = int(lines) if who.startswith("ours") else int(lines) // int(size)
    if who in BLOCKING:
        return measured(BLOCKING[who](url), protocol, job_id, items)
    return asyncio.run(measured_async(ASYNCHRONOUS[who](url), protocol, job_id, items, batches=who == BATCHES))


def main(who: str, url: str) -> None:
    """Tail the jobs that the standard input names."""
    for line in sys.stdin:
        print(json.dumps(tail(who, url, *line.split())), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
