"""A job's live log as the agent's events, with ``complete`` only where it is true.

Ray's own tail ends in the same way when the job has ended and when it could not read on, so its end says nothing:
the job's status is asked, and what was sent is compared with the whole log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.jobs import has_ended
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.events import encode_event, log_events
from airflow_provider_rayagent.local.spool import Spool

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

QUIET = 15.0
"""Seconds without a line after which followers are told that the stream is alive, and the job is looked at."""

MAX_FAILED_LOOKS = 4
"""Looks in a row that Ray does not answer, after which a silent tail is given up."""

_log = logging.getLogger(__name__)


class JobLog:
    """One job's log, read once from Ray for all who follow the job, and kept as events in a :class:`Spool`.

    :param job: Ray's details of the job.
    :param quiet: see :data:`QUIET`.
    :ivar holds_tail: whether Ray tails the log, or is about to.
    :ivar left_tail: whether a tail was left that Ray may go on holding.
    :ivar is_whole: whether the last event says how the job's log ended.
    """

    def __init__(self, ray: RayDashboard, job: Row, quiet: float = QUIET) -> None:
        self._ray = ray
        self._quiet = quiet
        self.job_id = str(job["submission_id"])
        self.start_time = job.get("start_time")
        self.spool = Spool()
        self.followers = 0
        self.holds_tail = not has_ended(job)
        self.left_tail = False
        self.is_whole = False
        self._sent = Sent()
        self._ended_looks = self._failed_looks = 0

    async def read(self) -> None:
        """Read the log to its end.

        The last event is ``complete`` once the job has ended and all is there, or an ``error`` that says that the log
        of a job that has ended cannot be had whole. There is neither where Ray's tail ended early; a client that opens
        the log again begins anew.
        """
        alive = asyncio.ensure_future(self._show_life())
        try:
            if self.holds_tail:
                await self._tail()
                if not has_ended(await self._ray.get_job(self.job_id)):
                    return
            await self._add_rest()
        except LocalAgentError as error:
            _log.info("The live log of job %s ended early: %s", self.job_id, error)
        finally:
            alive.cancel()
            self.spool.finish()

    async def _show_life(self) -> None:
        while True:
            await asyncio.sleep(self._quiet)
            self.spool.wake_readers()

    async def _tail(self) -> None:
        from websockets.exceptions import ConnectionClosed

        # It is read to its end even when nobody follows any more: Ray holds it until the job ends, whoever leaves.
        async with self._ray.tail_job_logs(self.job_id) as tail:
            self.left_tail = True
            # Ray's tail notices the end within seconds; if it is as silent as before a whole spell later, it is stuck.
            while self._ended_looks < 2:
                try:
                    message = await asyncio.wait_for(tail.recv(), self._quiet)
                except asyncio.TimeoutError:
                    await self._look()
                    continue
                except ConnectionClosed:
                    break
                self._add(message if isinstance(message, str) else message.decode("utf-8", "replace"))
            self.left_tail = False
        self.holds_tail = False

    async def _look(self) -> None:
        try:
            self._ended_looks += has_ended(await self._ray.get_job(self.job_id))
            self._failed_looks = 0
        except RayUnavailableError:
            self._failed_looks += 1
            if self._failed_looks == MAX_FAILED_LOOKS:
                raise

    def _add(self, text: str) -> None:
        self._sent.add(text)
        self.spool.write(b"".join(log_events(text)))

    async def _add_rest(self) -> None:
        rest = Rest(self._sent)
        try:
            async with self._ray.log_reads, aclosing(self._ray.log_text(self.job_id)) as texts:
                async for text in texts:
                    if not self.followers:
                        return
                    self._add(rest.of(text))
                rest.check_end()
        except RayAnswerError as error:
            self._end_with({"type": "error", "message": f"Ray cannot give the whole log of this job: {error}"})
        except LogRewrittenError as error:
            self._end_with({"type": "error", "message": str(error)})
        else:
            self._end_with({"type": "complete"})

    def _end_with(self, event: dict[str, str]) -> None:
        self.spool.write(encode_event(event))
        self.is_whole = True


class LogRewrittenError(Exception):
    """A log does not begin with what was read of it before."""

    def __init__(self) -> None:
        super().__init__("The job's log was rewritten while it was followed.")


class Sent:
    """What was sent of a log: how much, and a digest to tell whether it is how the log begins."""

    def __init__(self) -> None:
        self.characters = 0
        self.digest = hashlib.sha256()

    def add(self, text: str) -> None:
        """Note that ``text`` was sent."""
        self.characters += len(text)
        self.digest.update(text.encode("utf-8"))


class Rest:
    """Takes a log piece by piece from its beginning, and gives what of it was not sent.

    :param sent: what was sent; what is sent from now on does not matter.
    """

    def __init__(self, sent: Sent) -> None:
        self._left = sent.characters
        self._wanted = sent.digest.digest()
        self._found = hashlib.sha256()

    def of(self, text: str) -> str:
        """Return what of the next piece was not sent.

        :raises LogRewrittenError: if the log does not begin with what was sent.
        """
        if not self._left:
            return text
        begin, rest = text[: self._left], text[self._left :]
        self._found.update(begin.encode("utf-8"))
        self._left -= len(begin)
        if not self._left:
            self.check_end()
        return rest

    def check_end(self) -> None:
        """Check that the log was as long as what was sent.

        :raises LogRewrittenError: if it was not.
        """
        if self._left or self._found.digest() != self._wanted:
            raise LogRewrittenError
