"""A job's live log as events, with ``complete`` only if the log is complete.

The whole log is read again and again, and what it has more is sent. Ray's own live log over a WebSocket is not used:
Ray holds each until its job ends, 100 of them occupy all connections to a node (``JobAgentSubmissionClient`` in
``dashboard/modules/job/job_head.py``), and it can have newlines that the log does not have.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.spool import Spool
from airflow_provider_rayagent.local.sse_encoding import encode_event, log_events
from airflow_provider_rayagent.services.jobs import has_ended

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

READ_INTERVAL = 1.0
"""Seconds between two readings of a log."""
PAUSE_FACTOR = 4
"""How many times as long as it takes to read a log its next reading waits, at least."""
KEEP_ALIVE_SECONDS = 15.0
"""Seconds without a line after which followers get a keep-alive."""
MAX_FAILURES = 4
"""Consecutive failures of Ray after which a log ends early."""

_log = logging.getLogger(__name__)


class JobLog:
    """A job's log, read from Ray for all of its followers, and stored as events in a :class:`Spool`.

    :param job: Ray's details of the job.
    :ivar is_complete: whether the last event, ``complete`` or ``error``, was written.
    """

    def __init__(self, ray: RayDashboard, job: Row) -> None:
        self._ray = ray
        self.job_id = str(job["submission_id"])
        self.start_time = job.get("start_time")
        self.spool = Spool()
        self.followers = 0
        self.is_complete = False
        self._sent = SentPrefix()

    async def read(self) -> None:
        """Read the log to its end, or until nobody follows it any more.

        The last event is ``complete`` if the job has ended and its whole log was sent, or ``error`` if its log was
        rewritten, or cannot be read after the job's end. If Ray fails repeatedly, there is neither; a client that opens
        the log again starts from the beginning.
        """
        keep_alives = asyncio.ensure_future(self._send_keep_alives())
        failures = 0
        try:
            while self.followers and not self.is_complete:
                began = time.monotonic()
                try:
                    # In this order, since the log of a job that has ended is whole.
                    job = await self._ray.get_job(self.job_id)
                    await self._send_new_text(job_has_ended=has_ended(job))
                    failures = 0
                except (RayUnavailableError, RayAnswerError):
                    failures += 1
                    if failures == MAX_FAILURES:
                        raise
                if not self.is_complete:
                    await asyncio.sleep(max(READ_INTERVAL, PAUSE_FACTOR * (time.monotonic() - began)))
        except LocalAgentError as error:
            _log.info("The live log of job %s ended early: %s", self.job_id, error)
        finally:
            keep_alives.cancel()
            self.spool.finish()

    async def _send_keep_alives(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            self.spool.wake_readers()

    async def _send_new_text(self, *, job_has_ended: bool) -> None:
        remainder = Remainder(self._sent)
        try:
            texts = self._ray.log_text(self.job_id, is_whole=job_has_ended)
            async with self._ray.log_reads, aclosing(texts):
                async for text in texts:
                    if not self.followers:
                        return
                    self._add(remainder.feed(text))
                remainder.check_end()
        except RayAnswerError as error:
            if not job_has_ended:
                raise
            self._write_last_event(
                {"type": "error", "message": f"Ray cannot return the whole log of this job: {error}"}
            )
        except LogRewrittenError as error:
            self._write_last_event({"type": "error", "message": str(error)})
        else:
            if job_has_ended:
                self._write_last_event({"type": "complete"})

    def _add(self, text: str) -> None:
        self._sent.add(text)
        self.spool.write(b"".join(log_events(text)))

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
