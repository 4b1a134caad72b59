"""All live logs that are followed: one tail of Ray a job, however many follow it, and bounds on both.

Ray's job head answers no call for a job of a node, to anybody, once it holds a hundred tails of that node: each takes
one of the connections of aiohttp's pool (``JobAgentSubmissionClient`` in Ray's ``dashboard/modules/job/job_head.py``).
It holds a tail until its job ends, even if its client left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.jobs import has_ended
from airflow_provider_rayagent.local.errors import RayAnswerError, TooManyError
from airflow_provider_rayagent.local.events import COMPLETE, join_logs, whole_events
from airflow_provider_rayagent.local.follow import QUIET, JobLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

MAX_TAILS = 50
"""Most tails that the agent has open: half of what Ray bears, for there may be others who tail."""
MAX_LEFT_TAILS = 3
"""Most tails of one job that were left while the job ran; it is not tailed again then."""
MAX_LOGS = 200
"""Most logs that are open, those of ended jobs included, and most whole logs; each may take a file."""
MAX_FOLLOWERS = 1_000
"""Most streams that the agent has open."""


class Follower:
    """One who follows a job's log, from its first event; has to be closed.

    :param turns: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    :param on_close: is called once.
    """

    def __init__(self, log: JobLog, turns: asyncio.Semaphore, on_close: Callable[[JobLog], None]) -> None:
        self._log = log
        self._turns = turns
        self._on_close: Callable[[JobLog], None] | None = on_close

    async def blocks(self) -> AsyncGenerator[bytes | None, None]:
        """Yield the log's events, one or some at a time, and ``None`` now and then while there are none."""
        async with aclosing(self._log.spool.blocks(self._turns, whole_events)) as blocks:
            async for block in blocks:
                yield block and join_logs(block)

    def close(self) -> None:
        """Follow no more."""
        if self._on_close is not None:
            self._on_close(self._log)
            self._on_close = None


class JobLogs:
    """Opens logs for those who follow them.

    :param turns: see :meth:`~airflow_provider_rayagent.local.spool.Spool.blocks`.
    :param quiet: see :data:`~airflow_provider_rayagent.local.follow.QUIET`.
    """

    def __init__(self, ray: RayDashboard, turns: asyncio.Semaphore, quiet: float = QUIET) -> None:
        self._ray = ray
        self._turns = turns
        self._quiet = quiet
        self._logs: dict[str, JobLog] = {}
        self._open: set[JobLog] = set()
        self._reading: dict[JobLog, asyncio.Task[None]] = {}
        self._left_tails: Counter[str] = Counter()
        self._followers = 0

    async def follow(self, job_id: str) -> Follower:
        """Return a new follower of a job's log.

        :raises RayAnswerError: 404 if there is no such job, 400 if it is a driver that nobody submitted.
        :raises TooManyError: beyond :data:`MAX_FOLLOWERS`, :data:`MAX_LOGS` and :data:`MAX_TAILS`.
        :raises RayUnavailableError: if Ray does not answer.
        """
        log = self._logs.get(job_id)
        if log is None or log.spool.is_finished:
            log = self._log_of(await self._ray.get_job(job_id))
        return self._join(log)

    def follow_ended(self, job: Row) -> Follower:
        """Return a follower of a job that ended without having been on Ray: its log is empty."""
        self._refuse_too_many_followers()
        log = self._new_log(job)
        log.spool.write(COMPLETE)
        log.spool.finish()
        return self._join(log)

    async def close(self) -> None:
        """Leave all tails."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _log_of(self, job: Row) -> JobLog:
        if not job.get("submission_id"):
            raise RayAnswerError("Can only get logs of submission type jobs", 400)
        self._refuse_too_many_followers()
        log = self._logs.get(str(job["submission_id"]))
        if log is not None:
            # A cluster that was started anew runs the same id again.
            is_same = log.is_whole and log.start_time == job.get("start_time")
            if is_same or not log.spool.is_finished:
                return log
        return self._begin(job)

    def _begin(self, job: Row) -> JobLog:
        if not has_ended(job):
            tails = sum(each.holds_tail for each in self._reading)
            if tails >= MAX_TAILS or self._left_tails[str(job["submission_id"])] >= MAX_LEFT_TAILS:
                raise TooManyError("live logs", MAX_TAILS)
        log = self._new_log(job)
        self._logs[log.job_id] = log
        self._reading[log] = asyncio.ensure_future(self._read(log))
        return log

    def _new_log(self, job: Row) -> JobLog:
        if len(self._open) >= MAX_LOGS:
            raise TooManyError("open logs", MAX_LOGS)
        log = JobLog(self._ray, job, self._quiet)
        self._open.add(log)
        return log

    async def _read(self, log: JobLog) -> None:
        try:
            await log.read()
        finally:
            del self._reading[log]
            if log.left_tail:
                self._left_tails[log.job_id] += 1
            self._drop_if_unused(log)

    def _join(self, log: JobLog) -> Follower:
        self._refuse_too_many_followers()
        self._followers += 1
        log.followers += 1
        return Follower(log, self._turns, self._leave)

    def _leave(self, log: JobLog) -> None:
        self._followers -= 1
        log.followers -= 1
        self._drop_if_unused(log)

    def _refuse_too_many_followers(self) -> None:
        if self._followers >= MAX_FOLLOWERS:
            raise TooManyError("streams", MAX_FOLLOWERS)

    def _drop_if_unused(self, log: JobLog) -> None:
        if not log.followers and log not in self._reading:
            log.spool.close()
            self._open.discard(log)
            if self._logs.get(log.job_id) is log:
                del self._logs[log.job_id]
