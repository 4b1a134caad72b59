"""Drive a tail over the blocking transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.transport.log_responses import SLICE_SECONDS
from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent
from airflow_provider_rayagent.transport.tail_driver import Follower

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient


class BlockingFollower(Follower):
    """Follows one job, with coroutines that never suspend; then the attributes contain the outcome.

    :param stopped: set by another thread to stop soon; by a signal handler, only a :class:`.ReentrantEvent`.
    """

    def __init__(
        self,
        client: BlockingServiceClient,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: threading.Event | ReentrantEvent | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, job_id, settings, cursor=cursor, deadline=deadline, clock=clock)
        self._stopped = stopped or ReentrantEvent()

    def blocking_items(self) -> Generator[list[Item], None, None]:
        """Yield what :meth:`items` yields. Closing the generator closes all connections."""
        found = self.items()
        try:
            while True:
                try:
                    items = finish(anext(found))
                except StopAsyncIteration:
                    return
                yield items
        finally:
            finish(found.aclose())

    def _is_stopped(self) -> bool:
        return self._stopped.is_set()

    async def _wait(self, seconds: float) -> None:
        self._stopped.wait(min(seconds, SLICE_SECONDS))

    async def _read(self, seconds: float) -> None:
        # Nothing interrupts a read, so that ``stopped`` is noticed only after it.
        await super()._read(min(seconds, SLICE_SECONDS))
