"""The agent's queue: so many plugin jobs at once are on Ray, the others wait in order and are not Ray's yet.

The queue is in the agent's memory and ends with it: what waits then never runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.jobs import JobStatus
from airflow_provider_rayagent.client.transience import Permanence, row_of_status
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError, TooManyError

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

POLL_SECONDS = 0.5
"""Seconds between two looks at what runs on Ray, while a job waits."""
OF_A_PLUGIN = ("plugin", "action")
"""Keys of a job's metadata; a job that has them on Ray counts."""
MARK = "queued_as"
"""Key of the metadata of a job that waited; its value tells it from another job of its id."""
MAX_FAILURES = 60
"""Most answers to the submission of one waiting job that may pass or stay, such as 500. Ray gives them for some seconds
while it restarts a part of its dashboard that ended (``dashboard/subprocesses/handle.py``)."""
MAX_WAITING = 1_000
"""Most jobs that wait."""
MAX_ENDED = 1_000
"""Most jobs that are remembered though they never were on Ray; older ones are forgotten."""
STOPPED_HERE = "The job was stopped while it waited in the agent's queue; it never was on Ray."
ID_TAKEN = "The job never ran: while it waited in the agent's queue, another job was submitted to Ray under its id."

_OPEN = (JobStatus.PENDING.value, JobStatus.RUNNING.value)


@dataclass
class _Waiting:
    """A job that waits.

    :param request: the fields of Ray's submit call.
    :param since: when it came, in ms since the epoch.
    :param mark: see :data:`MARK`.
    :param was_sent: whether Ray may have it, from a submission that was not answered with success.
    :param failures: see :data:`MAX_FAILURES`.
    """

    request: Row
    since: int
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    was_sent: bool = False
    failures: int = 0

    @property
    def job_id(self) -> str:
        return str(self.request["submission_id"])

    def ended(self, status: JobStatus, message: str) -> Row:
        """Return details in the form of Ray's for a job that ended without having been on Ray."""
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
    """Submits jobs in the order in which they came, up to a number at once.

    :param limit: how many jobs of plugins may be PENDING or RUNNING on Ray.
    """

    def __init__(self, ray: RayDashboard, limit: int) -> None:
        self._ray = ray
        self._limit = limit
        self._waiting: dict[str, _Waiting] = {}
        self._ended: dict[str, Row] = {}
        self._lock = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Submit nothing more."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def add(self, request: Row) -> bool:
        """Submit a job if its turn is now, else let it wait; return whether it waits.

        :param request: the fields of Ray's submit call, ``submission_id`` among them, and :data:`OF_A_PLUGIN` in its
            metadata.
        :raises RayAnswerError: 409 if the id is known, here or on Ray; or Ray's refusal.
        :raises TooManyError: if :data:`MAX_WAITING` jobs wait.
        :raises RayUnavailableError: if Ray does not answer.
        """
        job = _Waiting(request, _now())
        async with self._lock:
            self.refuse_known(job.job_id)
            await self._refuse_known_to_ray(job.job_id)
            if not self._waiting and await self._room() > 0:
                await self._ray.submit_job(request)
                return False
            if len(self._waiting) >= MAX_WAITING:
                raise TooManyError("waiting jobs", MAX_WAITING)
            self._waiting[job.job_id] = job
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        return True

    async def stop(self, job_id: str) -> bool | None:
        """Take a job that waits out of the queue: from then on it is STOPPED.

        :return: whether it waited, ``False`` if it has ended here already, ``None`` if it is none of the queue's, or is
            on Ray.
        :raises RayUnavailableError: if Ray may have the job and does not answer.
        """
        async with self._lock:
            if job := self._waiting.get(job_id):
                is_on_ray = job.was_sent and await self._is_on_ray(job)
                del self._waiting[job_id]
                if is_on_ray:
                    return None
                self._note_end(job, JobStatus.STOPPED, STOPPED_HERE)
                return True
        return False if job_id in self._ended else None

    def ended(self) -> list[Row]:
        """Return the jobs that ended without having been on Ray, in the form of Ray's details."""
        return list(self._ended.values())

    def find(self, job_id: str) -> Row | None:
        """Return one job that ended without having been on Ray, ``None`` if the id is none of the queue's.

        :raises RayAnswerError: 404 if the job waits. Whatever Ray has under its id meanwhile is another job.
        """
        if job_id in self._waiting:
            raise RayAnswerError(f"Job {job_id} does not exist", 404)
        return self._ended.get(job_id)

    def has(self, job_id: str) -> bool:
        """Whether a job of this id waits, or has ended, here."""
        return job_id in self._waiting or job_id in self._ended

    def refuse_known(self, job_id: str) -> None:
        """Raise if a job of this id waits, or has ended, here.

        :raises RayAnswerError: 409.
        """
        if job_id in self._waiting:
            raise RayAnswerError(f"Job {job_id} already exists: it waits in the agent's queue", 409)
        if job_id in self._ended:
            raise RayAnswerError(f"Job {job_id} already exists", 409)

    async def _refuse_known_to_ray(self, job_id: str) -> None:
        try:
            await self._ray.get_job(job_id)
        except RayAnswerError as error:
            if error.status_code == 404:
                return
            raise
        raise RayAnswerError(f"Job {job_id} already exists", 409)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            async with self._lock:
                # Ray may be back at the next look.
                with contextlib.suppress(LocalAgentError):
                    await self._advance()

    async def _advance(self) -> None:
        await self._take_off_what_ray_has()
        room = await self._room()
        while self._waiting and room > 0:
            job = next(iter(self._waiting.values()))
            metadata = {**(job.request.get("metadata") or {}), MARK: job.mark}
            try:
                await self._ray.submit_job({**job.request, "metadata": metadata})
            except RayUnavailableError:
                job.was_sent = True
                raise
            except RayAnswerError as error:
                if _may_pass(job, error):
                    job.was_sent = True
                    raise
                if error.status_code != 409:
                    self._note_end(job, JobStatus.FAILED, f"Ray did not take the job: {error}")
                elif not await self._is_on_ray(job):
                    self._note_end(job, JobStatus.FAILED, ID_TAKEN)
            else:
                room -= 1
            del self._waiting[job.job_id]

    async def _take_off_what_ray_has(self) -> None:
        # Only the first can have been sent.
        job = next(iter(self._waiting.values()), None)
        if job is not None and job.was_sent and await self._is_on_ray(job):
            del self._waiting[job.job_id]

    async def _is_on_ray(self, job: _Waiting) -> bool:
        """Whether Ray's job of this id is this one."""
        try:
            found = await self._ray.get_job(job.job_id)
        except RayAnswerError as error:
            if error.status_code == 404:
                return False
            raise
        return (found.get("metadata") or {}).get(MARK) == job.mark

    def _note_end(self, job: _Waiting, status: JobStatus, message: str) -> None:
        self._ended[job.job_id] = job.ended(status, message)
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    async def _room(self) -> int:
        return self._limit - sum(_counts(job) for job in await self._ray.list_jobs())


def _may_pass(job: _Waiting, error: RayAnswerError) -> bool:
    """Whether the same submission may succeed at a later look."""
    permanence = row_of_status(error.status_code).permanence
    if permanence is Permanence.UNKNOWN:
        job.failures += 1
    return permanence is not Permanence.PERMANENT and job.failures < MAX_FAILURES


def _counts(job: Row) -> bool:
    metadata = job.get("metadata") or {}
    return job.get("status") in _OPEN and all(key in metadata for key in OF_A_PLUGIN)


def _now() -> int:
    return int(time.time() * 1000)
