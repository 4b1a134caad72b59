"""A job's live log as events, with ``complete`` only if the log is complete.

Ray's log tail closes in the same way whether the job has ended or the log could not be read further. After it closes,
the agent checks the job's status, and compares the events sent so far with the whole log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.spool import Spool
from airflow_provider_rayagent.local.sse_encoding import encode_event, log_events
from airflow_provider_rayagent.local.tail_text import TailText
from airflow_provider_rayagent.services.jobs import has_ended

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

QUIET_SECONDS = 15.0
"""Seconds without a line after which followers get a keep-alive, and the job's status is checked."""

MAX_FAILED_CHECKS = 4
"""Consecutive failed status checks after which a silent tail is closed."""

_log = logging.getLogger(__name__)


class JobLog:
    """A job's log, read once from Ray for all of its followers, and stored as events in a :class:`Spool`.

    :param job: Ray's details of the job.
    :param quiet: see :data:`QUIET_SECONDS`.
    :ivar has_tail: whether Ray tails the log, or will do so soon.
    :ivar abandoned_tail: whether the agent closed a tail that Ray may still hold open.
    :ivar is_complete: whether the last event, ``complete`` or ``error``, was written.
    """

    def __init__(self, ray: RayDashboard, job: Row, quiet: float = QUIET_SECONDS) -> None:
        self._ray = ray
        self._quiet = quiet
        self.job_id = str(job["submission_id"])
        self.start_time = job.get("start_time")
        self.spool = Spool()
        self.followers = 0
        self.has_tail = not has_ended(job)
        self.abandoned_tail = False
        self.is_complete = False
        self._sent = SentPrefix()
        self._ended_checks = self._failed_checks = 0

    async def read(self) -> None:
        """Read the log to its end.

        The last event is ``complete`` if the job has ended and its whole log was sent, or ``error`` if the job has
        ended and its whole log cannot be read. If Ray's tail closed early, there is neither; a client that opens the
        log again starts from the beginning.
        """
        keep_alives = asyncio.ensure_future(self._send_keep_alives())
        try:
            if self.has_tail:
                await self._tail()
                if not has_ended(await self._ray.get_job(self.job_id)):
                    return
            await self._send_remainder()
        except LocalAgentError as error:
            _log.info("The live log of job %s ended early: %s", self.job_id, error)
        finally:
            keep_alives.cancel()
            self.spool.finish()

    async def _send_keep_alives(self) -> None:
        while True:
            await asyncio.sleep(self._quiet)
            self.spool.wake_readers()

    async def _tail(self) -> None:
        from websockets.exceptions import ConnectionClosed

        # Read it to its end even without followers: Ray holds it open until the job ends anyway.
        tail_text = TailText(self._ray, self.job_id)
        async with self._ray.tail_job_logs(self.job_id) as tail:
            self.abandoned_tail = True
            # Ray closes a tail within seconds of the job's end; a tail that stays silent and open is stuck.
            while self._ended_checks < 2:
                try:
                    message = await asyncio.wait_for(tail.recv(), self._quiet)
                except asyncio.TimeoutError:
                    await self._check_job()
                    continue
                except ConnectionClosed:
                    break
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                self._add(await tail_text.correct(text))
            self.abandoned_tail = False
        self.has_tail = False

    async def _check_job(self) -> None:
        try:
            self._ended_checks += has_ended(await self._ray.get_job(self.job_id))
            self._failed_checks = 0
        except RayUnavailableError:
            self._failed_checks += 1
            if self._failed_checks == MAX_FAILED_CHECKS:
                raise

    def _add(self, text: str) -> None:
        self._sent.add(text)
        self.spool.write(b"".join(log_events(text)))

    async def _send_remainder(self) -> None:
        remainder = Remainder(self._sent)
        try:
            async with self._ray.log_reads, aclosing(self._ray.log_text(self.job_id)) as texts:
                async for text in texts:
                    if not self.followers:
                        return
                    self._add(remainder.feed(text))
                remainder.check_end()
        except RayAnswerError as error:
            self._write_last_event(
                {"type": "error", "message": f"Ray cannot return the whole log of this job: {error}"}
            )
        except LogRewrittenError as error:
            self._write_last_event({"type": "error", "message": str(error)})
        else:
            self._write_last_event({"type": "complete"})

    def _write_last_event(self, event: dict[str, str]) -> None:
        self.spool.write(encode_event(event))
        self.is_complete = True


class LogRewrittenError(Exception):
    """The log does not begin with the text that was read from it before."""

    def __init__(self) -> None:
        super().__init__("The job's log was rewritten while it was being followed.")


class SentPrefix:
    """The text of a log that was sent: its length, and a digest to compare it with the log."""

    def __init__(self) -> None:
        self.characters = 0
        self.digest = hashlib.sha256()

    def add(self, text: str) -> None:
        """Add text that was sent."""
        self.characters += len(text)
        self.digest.update(text.encode("utf-8"))


class Remainder:
    """Returns the part of a log that was not sent yet, from chunks of the whole log.

    :param sent: the text sent so far; later additions to it have no effect.
    """

    def __init__(self, sent: SentPrefix) -> None:
        self._to_skip = sent.characters
        self._expected_digest = sent.digest.digest()
        self._digest = hashlib.sha256()

    def feed(self, text: str) -> str:
        """Take the next chunk of the log; return the part of it that was not sent.

        :raises LogRewrittenError: if the log does not begin with the text that was sent.
        """
        if not self._to_skip:
            return text
        skipped, remainder = text[: self._to_skip], text[self._to_skip :]
        self._digest.update(skipped.encode("utf-8"))
        self._to_skip -= len(skipped)
        if not self._to_skip:
            self.check_end()
        return remainder

    def check_end(self) -> None:
        """Check that the log contains all text that was sent.

        :raises LogRewrittenError: if it does not.
        """
        if self._to_skip or self._digest.digest() != self._expected_digest:
            raise LogRewrittenError
