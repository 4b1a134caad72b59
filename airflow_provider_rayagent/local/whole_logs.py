"""Whole logs for those who ask: each read from Ray as fast as it comes, and handed out at the pace of the readers.

Ray gives a log within a deadline, which a slow reader does not keep; and it is read once for all who wait for it.
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
        self.is_whole = False
        self.error = LocalAgentError("The log could not be read to its end.")


class WholeLogs:
    """Reads whole logs.

    :param turns: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    """

    def __init__(self, ray: RayDashboard, turns: asyncio.Semaphore) -> None:
        self._ray = ray
        self._turns = turns
        self._waiting: dict[str, _WholeLog] = {}
        self._open: set[_WholeLog] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """Yield all that a job has logged so far, as UTF-8.

        :raises LocalAgentError: if Ray cannot give it, or not to its end; or beyond
            :data:`~airflow_provider_rayagent.local.job_logs.MAX_LOGS`.
        """
        log = self._waiting.get(job_id)
        if log is None:
            if len(self._open) >= MAX_LOGS:
                raise TooManyError("whole logs in hand", MAX_LOGS)
            log = self._waiting[job_id] = _WholeLog()
            self._open.add(log)
            task = asyncio.ensure_future(self._fill(log, job_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        log.readers += 1
        try:
            async with aclosing(log.spool.blocks(self._turns)) as blocks:
                async for block in blocks:
                    if block:
                        yield block
            if not log.is_whole:
                raise log.error
        finally:
            log.readers -= 1
            self._drop_if_unused(log)

    async def close(self) -> None:
        """Read no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self, log: _WholeLog, job_id: str) -> None:
        try:
            async with self._ray.log_reads:
                # Who asks from now on is to have what is logged until then.
                del self._waiting[job_id]
                async with aclosing(self._ray.log_text(job_id)) as texts:
                    async for text in texts:
                        if not log.readers:
                            return
                        log.spool.write(text.encode("utf-8"))
            log.is_whole = True
        except LocalAgentError as error:
            log.error = error
        finally:
            log.spool.finish()
            self._drop_if_unused(log)

    def _drop_if_unused(self, log: _WholeLog) -> None:
        if not log.readers and log.spool.is_finished:
            log.spool.close()
            self._open.discard(log)
