"""Drive a tail over the asyncio transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_rayagent.transport.aio_items import Items, TaskItems
from airflow_provider_rayagent.transport.tail_driver import Follower

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.items import Item


class AsyncFollower(Follower):
    """Follows one job: :meth:`items` yields its items, then the attributes contain the outcome."""

    def items(self) -> Items[list[Item]]:
        """Return an iterator over lists of items, which may be empty, until the end.

        Closing it or dropping its last reference closes all connections.
        """
        return TaskItems(self._items())

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
