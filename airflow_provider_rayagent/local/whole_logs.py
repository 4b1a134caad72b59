"""Whole logs: each is read from Ray at full speed into a spool, and sent to clients at their own pace.

Ray aborts the transfer of a log after a timeout, which a slow client could exceed. Clients that request a log while it
waits to be read share one read.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, TooManyError
from airflow_provider_rayagent.local.job_logs import MAX_LOGS
from airflow_provider_rayagent.local.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow_provider_rayagent.local.ray_api import RayDashboard


class _WholeLog:
    def __init__(self) -> None:
        self.spool = Spool()
        self.readers = 0
        self.is_complete = False
        self.error = LocalAgentError("The log could not be read completely.")


class WholeLogs:
    """Reads whole logs.

    :param read_slots: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    """

    def __init__(self, ray: RayDashboard, read_slots: asyncio.Semaphore) -> None:
        self._ray = ray
        self._read_slots = read_slots
        self._waiting: dict[str, _WholeLog] = {}
        self._open: set[_WholeLog] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """Yield a job's log so far, as UTF-8.

        :raises LocalAgentError: if it cannot be read completely.
        :raises TooManyError: beyond :data:`~airflow_provider_rayagent.local.job_logs.MAX_LOGS`.
        """
        log = self._waiting.get(job_id)
        if log is None:
            if len(self._open) >= MAX_LOGS:
                raise TooManyError("whole logs", MAX_LOGS)
            log = self._waiting[job_id] = _WholeLog()
            self._open.add(log)
            task = asyncio.ensure_future(self._fill(log, job_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        log.readers += 1
        try:
            async with aclosing(log.spool.blocks(self._read_slots)) as blocks:
                async for block in blocks:
                    if block:
                        yield block
            if not log.is_complete:
                raise log.error
        finally:
            log.readers -= 1
            self._close_if_unused(log)

    async def close(self) -> None:
        """Stop reading logs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self, log: _WholeLog, job_id: str) -> None:
        try:
            async with self._ray.log_reads:
                # Later requests must get later lines too, so they start another read.
                del self._waiting[job_id]
                async with aclosing(self._ray.log_text(job_id)) as texts:
                    async for text in texts:
                        if not log.readers:
                            return
                        log.spool.write(text.encode("utf-8"))
            log.is_complete = True
        except LocalAgentError as error:
            log.error = error
        finally:
            log.spool.finish()
            self._close_if_unused(log)

    def _close_if_unused(self, log: _WholeLog) -> None:
        if not log.readers and log.spool.is_finished:
            log.spool.close()
            self._open.discard(log)
