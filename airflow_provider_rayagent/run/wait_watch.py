"""Tell in the task log why a followed job waits."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.wait_look import look_at_wait
from airflow_provider_rayagent.render.record_builder import Record
from airflow_provider_rayagent.run.record_looks import start_look
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize, shown_error
from airflow_provider_rayagent.transport import daemon_threads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from airflow_provider_rayagent.activity.wait_reasons import WaitReason
    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.transport.tail_driver import Follower

log = logging.getLogger(__name__)

PENDING_SECONDS = 15.0
"""How long a job is PENDING before the first look: most are for some seconds."""
QUIET_SECONDS = 60.0
"""How long a job that runs has written nothing before a look."""
MIN_INTERVAL, MAX_INTERVAL = 60.0, 600.0
"""Seconds between two looks; the interval doubles while a job that runs is found not to wait."""
WAIT_LOOK_SECONDS = 5.0
MAX_TOLD = 20
"""Reasons that are remembered."""
REPEAT_SECONDS = 3600.0
"""After this time, a reason is told again if another one was found meanwhile."""


class WaitWatch:
    """Looks now and then why one job waits, and tells the reason when it is found and when it changes. Never blocks.

    :param config: of the service that has the job.
    """

    def __init__(self, config: ServiceConfig, job_id: str) -> None:
        self._config = config
        self._job_id = job_id
        self._status: JobStatus | None = None
        self._quiet_since = 0.0
        self._due = 0.0
        self._interval = MIN_INTERVAL
        self._look: Future[WaitReason | None] | None = None
        self._began = 0.0
        """When the look began."""
        self._found: object = None
        """The kind of the reason that was found last."""
        self._told: dict[object, float] = {}
        """When reasons were told, by their kind."""
        self.reason = ""
        """The reason that the last look has found, safe to show; empty: none."""

    def records(self, follower: Follower) -> list[Record]:
        """Return what there is to tell; call it now and then."""
        job, now = follower.job, follower.clock()
        if job is None:
            return []
        status = known_status(job)
        if status is not self._status:
            self._begin(status, now)
        if status not in (JobStatus.PENDING, JobStatus.RUNNING):
            return []
        self._quiet_since = max(self._quiet_since, follower.text_at)
        if self._look is not None and self._look.done():
            reason, self._look = _result_of(self._look), None
            # While a job writes, it does not matter what it waited for.
            is_late = status is JobStatus.RUNNING and self._quiet_since > self._began
            return self._tell(None if is_late else reason, now, follower.redact)
        is_quiet = status is JobStatus.PENDING or now - self._quiet_since >= QUIET_SECONDS
        if self._look is None and now >= self._due and is_quiet:
            self._began = now
            self._look = _start(self._config, self._job_id, job, follower.redact)
        return []

    def close(self) -> None:
        """Wait for no look any more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _begin(self, status: JobStatus | None, now: float) -> None:
        self.close()
        self._status, self._quiet_since, self._interval = status, now, MIN_INTERVAL
        self._due = now + (PENDING_SECONDS if status is JobStatus.PENDING else QUIET_SECONDS)
        self._found, self.reason = None, ""
        self._told.clear()

    def _tell(self, reason: WaitReason | None, now: float, redact: Redactor) -> list[Record]:
        is_quick = reason is not None or self._status is JobStatus.PENDING
        self._interval = MIN_INTERVAL if is_quick else min(self._interval * 2, MAX_INTERVAL)
        self._due = now + self._interval
        kind, self.reason = (reason.kind, _shown(reason, redact)) if reason else (None, "")
        before, self._found = self._found, kind
        if reason is None or (reason.is_momentary and kind != before):
            return []
        if kind in self._told and (list(self._told)[-1] == kind or now - self._told[kind] < REPEAT_SECONDS):
            return []
        if len(self._told) >= MAX_TOLD:
            del self._told[next(iter(self._told))]
        # As the last one.
        self._told.pop(kind, None)
        self._told[kind] = now
        return [Record(logging.INFO, f"Job {self._job_id} waits: {self.reason}.")]


def reason_of_wait(config: ServiceConfig, job_id: str, job: Mapping[str, Any]) -> WaitReason | None:
    """Return why a job waits, with a text that is safe to show; ``None`` if that is not known within some seconds."""
    look = _start(config, job_id, job, config.redact)
    reason = _result_of(look) if daemon_threads.is_done_within(WAIT_LOOK_SECONDS, look) else None
    return reason._replace(text=_shown(reason, config.redact)) if reason else None


def _start(config: ServiceConfig, job_id: str, job: Mapping[str, Any], redact: Redactor) -> Future[WaitReason | None]:
    return start_look(config, partial(look_at_wait, job_id=job_id, job=job, redact=redact))


def _result_of(look: Future[WaitReason | None]) -> WaitReason | None:
    try:
        return look.result()
    except Exception as error:  # noqa: BLE001 - no reason is worth the task; what lasts is reported by the job's status
        log.debug("Why the job waits is not known: %s", shown_error(error))
        return None


def _shown(reason: WaitReason, redact: Redactor) -> str:
    return sanitize(reason.text, redact, length=MAX_NOTICE)
