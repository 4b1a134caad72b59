"""The live logs that are being followed: each is read once for all of its followers, with limits on both."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import NO_LOG, RayAnswerError, TooManyError
from airflow_provider_rayagent.local.follow import JobLog
from airflow_provider_rayagent.local.sse_encoding import COMPLETE, complete_events, merge_log_events

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

MAX_LOGS = 200
"""Maximum number of open live logs, including those of ended jobs, and of whole logs; each may use a file."""
MAX_FOLLOWERS = 1_000
"""Maximum number of open streams."""


class LogReader:
    """A reader of a job's log from the first event on; must be closed.

    :param read_slots: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    :param on_close: called once on close.
    """

    def __init__(self, log: JobLog, read_slots: asyncio.Semaphore, on_close: Callable[[JobLog], None]) -> None:
        self._log = log
        self._read_slots = read_slots
        self._on_close: Callable[[JobLog], None] | None = on_close

    async def blocks(self) -> AsyncGenerator[bytes | None, None]:
        """Yield the log's events, one or more at a time, and ``None`` as a keep-alive while there are none."""
        async with aclosing(self._log.spool.blocks(self._read_slots, complete_events)) as blocks:
            async for block in blocks:
                yield block and merge_log_events(block)

    def close(self) -> None:
        """Stop following."""
        if self._on_close is not None:
            self._on_close(self._log)
            self._on_close = None


class JobLogs:
    """Opens live logs for followers.

    :param read_slots: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    """

    def __init__(self, ray: RayDashboard, read_slots: asyncio.Semaphore) -> None:
        self._ray = ray
        self._read_slots = read_slots
        self._logs: dict[str, JobLog] = {}
        self._open: set[JobLog] = set()
        self._reading: dict[JobLog, asyncio.Task[None]] = {}
        self._followers = 0

    async def follow(self, job_id: str) -> LogReader:
        """Return a new follower of a job's log.

        :raises RayAnswerError: 404 if there is no such job, 400 if it is a driver that was not submitted as a job.
        :raises TooManyError: beyond :data:`MAX_FOLLOWERS` and :data:`MAX_LOGS`.
        :raises RayUnavailableError: if Ray does not respond.
        """
        log = self._logs.get(job_id)
        if log is None or log.spool.is_finished:
            log = self._get_or_open(await self._ray.get_job(job_id))
        return self._add_follower(log)

    def follow_ended(self, job: Row) -> LogReader:
        """Return a follower of a job that ended without having been on Ray; its log is empty."""
        self._check_follower_limit()
        log = self._new_log(job)
        log.spool.write(COMPLETE)
        log.spool.finish()
        return self._add_follower(log)

    async def close(self) -> None:
        """Stop reading logs."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _get_or_open(self, job: Row) -> JobLog:
        if not job.get("submission_id"):
            raise RayAnswerError(NO_LOG, 400)
        self._check_follower_limit()
        log = self._logs.get(str(job["submission_id"]))
        if log is not None:
            # A restarted cluster may run another job with the same id.
            is_same = log.is_complete and log.start_time == job.get("start_time")
            if is_same or not log.spool.is_finished:
                return log
        return self._open_log(job)

    def _open_log(self, job: Row) -> JobLog:
        log = self._new_log(job)
        self._logs[log.job_id] = log
        self._reading[log] = asyncio.ensure_future(self._read(log))
        return log

    def _new_log(self, job: Row) -> JobLog:
        if len(self._open) >= MAX_LOGS:
            raise TooManyError("open logs", MAX_LOGS)
        log = JobLog(self._ray, job)
        self._open.add(log)
        return log

    async def _read(self, log: JobLog) -> None:
        try:
            await log.read()
        finally:
            del self._reading[log]
            self._close_if_unused(log)

    def _add_follower(self, log: JobLog) -> LogReader:
        self._check_follower_limit()
        self._followers += 1
        log.followers += 1
        return LogReader(log, self._read_slots, self._remove_follower)

    def _remove_follower(self, log: JobLog) -> None:
        self._followers -= 1
        log.followers -= 1
        self._close_if_unused(log)

    def _check_follower_limit(self) -> None:
        if self._followers >= MAX_FOLLOWERS:
            raise TooManyError("streams", MAX_FOLLOWERS)

    def _close_if_unused(self, log: JobLog) -> None:
        if not log.followers and log not in self._reading:
            log.spool.close()
            self._open.discard(log)
            if self._logs.get(log.job_id) is log:
                del self._logs[log.job_id]
