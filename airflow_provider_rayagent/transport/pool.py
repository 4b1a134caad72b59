"""Share one asyncio transport among all users of the same agent in one event loop, such as that of a triggerer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_rayagent.transport.aio import AsyncServiceClient

if TYPE_CHECKING:
    from airflow_provider_rayagent.connection.config import ServiceConfig


@dataclass
class _Shared:
    client: AsyncServiceClient
    users: int = 0


# By event loop, since the connections of a client belong to the loop that made them.
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Shared]] = WeakKeyDictionary()


def lease(config: ServiceConfig) -> AsyncServiceClient:
    """Return the running loop's transport for ``config``; return it with :func:`release`."""
    pool = _pools.setdefault(asyncio.get_running_loop(), [])
    # Not a dict: a config has dicts, and so no hash.
    shared = next((each for each in pool if each.client.config == config), None)
    if shared is None:
        shared = _Shared(AsyncServiceClient(config))
        pool.append(shared)
    shared.users += 1
    return shared.client


async def release(client: AsyncServiceClient) -> None:
    """Return a leased transport; the last user closes it."""
    pool = _pools.get(asyncio.get_running_loop(), [])
    for shared in pool:
        if shared.client is client:
            shared.users -= 1
            if shared.users:
                return
            # Before the await, during which lease() must not return a transport that is being closed.
            pool.remove(shared)
    await client.close()
