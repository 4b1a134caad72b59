"""The agent's queue, which limits the number of plugin jobs on Ray; the others wait in order.

The queue is in memory: jobs that are waiting when the agent stops never run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import CONFLICT
from airflow_provider_rayagent.errors.transience import Permanence, classification_of_status
from airflow_provider_rayagent.local.errors import LocalAgentError, RayResponseError, RayUnavailableError, TooManyError
from airflow_provider_rayagent.services.jobs import JobStatus

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

POLL_SECONDS = 0.5
"""Seconds between two checks of Ray's jobs while a job waits."""
PLUGIN_KEYS = ("plugin", "action")
"""Metadata keys of plugin jobs; jobs on Ray with these keys count toward the limit."""
MAX_FAILURES = 60
"""Maximum number of possibly transient failures, such as 500, to submit one waiting job. Ray fails for some seconds
while it restarts a module of its dashboard (``dashboard/subprocesses/handle.py``)."""
MAX_WAITING = 1_000
"""Maximum number of waiting jobs."""
MAX_ENDED = 1_000
"""Maximum number of ended jobs to remember that were never on Ray; the oldest are forgotten."""
STOPPED_IN_QUEUE = "The job was stopped while it waited in the agent's queue; it was never on Ray."
ID_TAKEN = "The job never ran: while it waited in the agent's queue, another job was submitted to Ray under its id."

_OPEN = (JobStatus.PENDING.value, JobStatus.RUNNING.value)


@dataclass
class _WaitingJob:
    """A job that waits in the queue.

    :param request: the fields of Ray's submit call.
    :param since: when it was added, in ms since the epoch.
    :param may_be_on_ray: whether Ray may have accepted it in a submission that seemed to fail.
    :param failures: see :data:`MAX_FAILURES`.
    """

    request: Row
    since: int
    may_be_on_ray: bool = False
    failures: int = 0

    @property
    def job_id(self) -> str:
        return str(self.request["submission_id"])

    def ended(self, status: JobStatus, message: str) -> Row:
        """Return the job's details, in Ray's format, if it ended without having been on Ray."""
        return {
            "type": "SUBMISSION",
            "job_id": None,
            "submission_id": self.job_id,
            "driver_info": None,
            "status": status.value,
            "entrypoint": self.request["entrypoint"],
            "message": message,
            "error_type": None,
            "start_time": self.since,
            "end_time": _now(),
            "metadata": self.request.get("metadata"),
            "runtime_env": self.request.get("runtime_env"),
            "driver_agent_http_address": None,
            "driver_node_id": None,
            "driver_exit_code": None,
        }


class JobQueue:
    """Submits jobs in order, up to a limit.

    :param limit: maximum number of plugin jobs that are PENDING or RUNNING on Ray.
    """

    def __init__(self, ray: RayDashboard, limit: int) -> None:
        self._ray = ray
        self.limit = limit
        # A list, not a set: two requests may add the same id at once, and the end of one must not hide the other.
        self._adding: list[str] = []
        self._waiting: dict[str, _WaitingJob] = {}
        self._ended: dict[str, Row] = {}
        # Held from the count of free slots to the submission: two jobs must not take the same slot.
        self._lock = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop submitting jobs."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def add(self, request: Row) -> bool:
        """Submit a job if there is a free slot, otherwise add it to the queue; return whether it waits.

        :param request: the fields of Ray's submit call, including ``submission_id`` and metadata with
            :data:`PLUGIN_KEYS`.
        :raises RayResponseError: 409 if the id is in use here or on Ray; or if Ray rejects the job.
        :raises TooManyError: if :data:`MAX_WAITING` jobs wait.
        :raises RayUnavailableError: if Ray does not respond.
        """
        job = _WaitingJob(request, _now())
        self._adding.append(job.job_id)
        try:
            async with self._lock:
                return await self._add(job)
        finally:
            self._adding.remove(job.job_id)

    async def _add(self, job: _WaitingJob) -> bool:
        # Checked before the job waits: Ray rejects an id in use only when the job is submitted, after the response.
        self.check_unused(job.job_id)
        if await self._is_on_ray(job.job_id):
            raise RayResponseError(f"Job {job.job_id} already exists", CONFLICT)
        # A slot that becomes free while jobs wait is theirs; the pump takes it at its next look.
        if not self._waiting and await self._free_slots() > 0:
            await self._ray.submit_job(job.request)
            return False
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyError("waiting jobs", MAX_WAITING)
        self._waiting[job.job_id] = job
        if self._pump is None or self._pump.done():
            # It runs only while jobs wait, so an idle agent does not poll Ray.
            self._pump = asyncio.ensure_future(self._run())
        return True

    async def stop(self, job_id: str) -> bool | None:
        """Remove a waiting job from the queue; it is then STOPPED.

        :return: ``True`` if it was removed, ``False`` if it had already ended in the queue, ``None`` if it is not a
            job of the queue or is on Ray.
        :raises RayUnavailableError: if Ray may have the job and does not respond.
        """
        # Other jobs need not wait for the lock, which is held while a job is being submitted.
        if job_id in self._waiting or job_id in self._adding:
            async with self._lock:
                if job := self._waiting.get(job_id):
                    is_on_ray = job.may_be_on_ray and await self._is_on_ray(job_id)
                    # Also if Ray has the job: the caller then stops it there, and the pump must not submit it again.
                    del self._waiting[job_id]
                    if is_on_ray:
                        return None
                    self._record_end(job, JobStatus.STOPPED, STOPPED_IN_QUEUE)
                    return True
        return False if job_id in self._ended else None

    def ended(self) -> list[Row]:
        """Return the jobs that ended without having been on Ray, in Ray's format."""
        return list(self._ended.values())

    def find(self, job_id: str) -> Row | None:
        """Return a job that ended without having been on Ray, ``None`` if the queue does not know the id.

        :raises RayResponseError: 404 if the job waits; a job with the same id on Ray is then another job.
        """
        if job_id in self._waiting:
            raise RayResponseError(f"Job {job_id} does not exist", 404)
        return self._ended.get(job_id)

    def has(self, job_id: str) -> bool:
        """Whether a job with this id waits, or has ended, in the queue."""
        return job_id in self._waiting or job_id in self._ended

    def check_unused(self, job_id: str) -> None:
        """Check that no job with this id waits, or has ended, in the queue.

        :raises RayResponseError: 409 if there is one.
        """
        if job_id in self._waiting:
            raise RayResponseError(f"Job {job_id} already exists: it waits in the agent's queue", CONFLICT)
        if job_id in self._ended:
            raise RayResponseError(f"Job {job_id} already exists", CONFLICT)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            async with self._lock:
                # Ray may be available again at the next check.
                with contextlib.suppress(LocalAgentError):
                    await self._submit_waiting()

    async def _submit_waiting(self) -> None:
        # Only the first job can have been submitted.
        first = next(iter(self._waiting.values()), None)
        if first is not None and first.may_be_on_ray and await self._is_on_ray(first.job_id):
            del self._waiting[first.job_id]
        free = await self._free_slots()
        while self._waiting and free > 0:
            job = next(iter(self._waiting.values()))
            try:
                await self._ray.submit_job(job.request)
            except RayUnavailableError:
                job.may_be_on_ray = True
                raise
            except RayResponseError as error:
                if _can_retry(job, error):
                    job.may_be_on_ray = True
                    raise
                if error.status_code != CONFLICT:
                    self._record_end(job, JobStatus.FAILED, f"Ray rejected the job: {error}")
                # Otherwise the conflict is with this job itself, which Ray accepted although its response was lost.
                elif not job.may_be_on_ray:
                    self._record_end(job, JobStatus.FAILED, ID_TAKEN)
            else:
                free -= 1
            del self._waiting[job.job_id]

    async def _is_on_ray(self, job_id: str) -> bool:
        try:
            await self._ray.get_job(job_id)
        except RayResponseError as error:
            if error.status_code == 404:
                return False
            raise
        return True

    def _record_end(self, job: _WaitingJob, status: JobStatus, message: str) -> None:
        self._ended[job.job_id] = job.ended(status, message)
        # A dict keeps the order of insertion, so its first key is the oldest.
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    async def _free_slots(self) -> int:
        return self.limit - sum(_takes_slot(job) for job in await self._ray.list_jobs())


def _can_retry(job: _WaitingJob, error: RayResponseError) -> bool:
    """Count the failure, and return whether the submission may succeed later."""
    permanence = classification_of_status(error.status_code).permanence
    if permanence is Permanence.UNKNOWN:
        job.failures += 1
    return permanence is not Permanence.PERMANENT and job.failures < MAX_FAILURES


def _takes_slot(job: Row) -> bool:
    metadata = job.get("metadata") or {}
    return job.get("status") in _OPEN and all(key in metadata for key in PLUGIN_KEYS)


def _now() -> int:
    return int(time.time() * 1000)
