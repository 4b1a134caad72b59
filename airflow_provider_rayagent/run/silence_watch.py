"""Tell in the task log what runs of a followed job that writes nothing, and find out whether it has stalled."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.activity.silence_look import Silence, look_at_silence
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.run.record_looks import start_look
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.services.validation import STALL_SECONDS
from airflow_provider_rayagent.text.durations import shown_duration
from airflow_provider_rayagent.text.sanitization import MAX_ERROR, sanitize, shown_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.tail_driver import Follower

log = logging.getLogger(__name__)

MAX_TOLD = 12
APART_SECONDS = 60.0
"""Least time between two looks that are compared: what Ray tells of executed tasks can be 45 seconds old."""
SETTLE_SECONDS = 60.0
"""Pause after the log could not be read, so that it is read before the job counts as silent."""
MAX_PAUSE_SECONDS = 600.0
"""Longest pause after looks that have found nothing that can be compared; it begins with :data:`SETTLE_SECONDS`."""


class StallSettings(NamedTuple):
    """What is done about a job that writes nothing.

    :param after: seconds before the task log says what runs; ``None``: never.
    :param timeout: seconds before the job has stalled; ``None``: never.
    :param stacks: whether to ask for Python stacks; ``None``: if Ray says that it gives them.
    """

    after: float | None = STALL_SECONDS
    timeout: float | None = None
    stacks: bool | None = None


class SilenceWatch:
    """Looks now and then at what runs of one job that writes nothing. Never blocks.

    A job has stalled if it writes nothing, and no task starts or ends, which takes two looks to see. How much of a CPU
    its processes use says nothing: a process that waits for another one may use all of it, and one that calculates for
    hours may be in order.

    :param config: of the service that has the job.
    """

    def __init__(self, config: ServiceConfig, job_id: str, settings: StallSettings) -> None:
        self._config = config
        self._job_id = job_id
        self._stacks = settings.stacks
        self._timeout = math.inf if settings.timeout is None else settings.timeout
        self._threshold = math.inf if settings.after is None else settings.after
        """How long the job is silent before the next block. It doubles with each, also for a job that goes on, so that
        one with usual pauses is not told of again and again."""
        self._told = 0
        self._is_running = False
        self._quiet_since = 0.0
        """Since when the job has written nothing."""
        self._tell_at = math.inf
        """When the next block is due."""
        self._before: Silence | None = None
        """What the last look has found; ``None``: nothing that can be compared."""
        self._same_since = 0.0
        """Since when looks have found the same."""
        self._is_log_certain = False
        """Whether the log is read again, so that what the job has written is known."""
        self._pause = SETTLE_SECONDS
        self._not_before = 0.0
        self._unreadable_since: float | None = None
        self._look: Future[Silence] | None = None
        self._began = 0.0
        """When the look was asked for."""

    def records(self, follower: Follower, reason: str) -> list[Record]:
        """Return what there is to tell; call it now and then. It ends the following of a job that has stalled.

        :param reason: why the job waits, if that is known.
        """
        job, now = follower.job, follower.clock()
        self._note_readability(follower, now)
        if job is None or known_status(job) is not JobStatus.RUNNING:
            self._is_running = False
            self.close()
            return []
        if not self._is_running or follower.text_at > self._quiet_since:
            self._restart(now if not self._is_running else follower.text_at)
        if self._unreadable_since is not None:
            return []
        if self._look is not None:
            return self._take(self._look, follower, now, reason) if self._look.done() else []
        if now >= self._due():
            is_last = self._before is not None and now >= self._same_since + self._timeout
            if is_last and not self._is_log_certain:
                # A stream that is lost without a sign has nothing new either, nor has a process that stood still.
                follower.renew_stream()
                self._not_before = now + SETTLE_SECONDS
            else:
                self._start(job, follower, now)
            self._is_log_certain = is_last
        return []

    def close(self) -> None:
        """Wait for no look any more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _note_readability(self, follower: Follower, now: float) -> None:
        """Note since when the log cannot be read, and give time to read it afterwards."""
        if not follower.log_is_readable:
            self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
        elif self._unreadable_since is not None:
            # Streams are replaced now and then.
            if now - self._unreadable_since > SETTLE_SECONDS:
                self._not_before = now + SETTLE_SECONDS
            self._unreadable_since = None

    def _restart(self, now: float) -> None:
        self.close()
        self._is_running, self._quiet_since, self._tell_at = True, now, now + self._threshold
        self._before, self._is_log_certain = None, False

    def _due(self) -> float:
        """Return when the next look is due."""
        tell_at = self._tell_at if self._told < MAX_TOLD else math.inf
        if self._before is None:
            first_at = math.inf if math.isinf(self._timeout) else self._quiet_since + APART_SECONDS
            return max(min(tell_at - APART_SECONDS, first_at), self._not_before)
        due = min(max(tell_at, self._same_since + APART_SECONDS), self._same_since + self._timeout)
        return max(due, self._not_before)

    def _start(self, job: Mapping[str, Any], follower: Follower, now: float) -> None:
        look = partial(
            look_at_silence,
            job=job,
            counts=not math.isinf(self._timeout),
            before=self._before,
            tells=self._is_due(now),
            takes_stacks=self._stacks,
            redact=follower.redact,
        )
        self._began = now
        self._look = start_look(self._config, look)

    def _take(self, look: Future[Silence], follower: Follower, now: float, reason: str) -> list[Record]:
        self._look = None
        found, before = _result_of(look, follower.redact), self._before
        is_same = found.is_known and before is not None and not found.goes_on_from(before)
        self._remember(found, now, is_same=is_same)
        is_stalled = is_same and self._began - self._same_since >= self._timeout
        is_told = self._is_told(found, before, is_same=is_same)
        if not (is_told or is_stalled):
            return []
        parts = list(found.parts)
        if found.is_known and not is_same:
            parts.append("other tasks of it start or end meanwhile")
        if reason:
            parts.append(f"it waits: {reason}")
        if is_stalled:
            follower.give_up("; ".join(parts))
        silent = shown_duration(self._began - self._quiet_since)
        advice = [found.advice] if found.advice and is_told and self._told == 1 else []
        lines = [f"Job {self._job_id} has written nothing for {silent}. What runs:"]
        lines += [f"  {line}" for line in (*parts, *found.stacks, *advice)]
        return [Record(logging.INFO, line) for line in lines]

    def _remember(self, found: Silence, now: float, *, is_same: bool) -> None:
        """Keep what the next look is compared with."""
        if not found.is_known:
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
            return
        self._before, self._pause = found, SETTLE_SECONDS
        if not is_same:
            # Now, since it is not known when the look was carried out.
            self._same_since = now

    def _is_told(self, found: Silence, before: Silence | None, *, is_same: bool) -> bool:
        """Return whether a block is due and worth it; if it is due, set when the next one is."""
        # A first look is only compared with the next one.
        if not self._is_due(self._began) or (before is None and found.is_known):
            return False
        is_told = before is None or not found.is_known or self._is_silent(found, before, is_same=is_same)
        self._told += is_told
        self._tell_at = self._began + self._threshold
        self._threshold *= 1 + is_told
        return is_told

    def _is_due(self, at: float) -> bool:
        """Return whether a block is due."""
        return at >= self._tell_at and self._told < MAX_TOLD

    def _is_silent(self, found: Silence, before: Silence, *, is_same: bool) -> bool:
        """Return whether something hangs as far as it can be seen: tasks that come and go are a sign of life."""
        quiet = self._began - self._quiet_since
        is_long = found.oldest_ago is not None and found.oldest_ago >= quiet
        # A job can have started the tasks that hang after its last words.
        has_started = found.newest_ago is not None and found.newest_ago < quiet / 2
        return (is_same and not has_started) or (is_long and found.runs_since(before))


def _result_of(look: Future[Silence], redact: Redactor) -> Silence:
    try:
        return look.result()
    except RayAgentError as error:
        return Silence(parts=(f"not known: {sanitize(error.detail, redact, length=MAX_ERROR)}",))
    except Exception as error:  # noqa: BLE001 - no look is worth the task
        log.debug("What runs of a silent job is not known: %s", shown_error(error))
        return Silence(parts=("not known",))
