"""The agent's queue: so many plugin jobs at once are on Ray, the others wait in order and are not Ray's yet.

The queue is in the agent's memory and ends with it: what waits then never runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_rayagent.agent.wire import JobStatus
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError

if TYPE_CHECKING:
    from airflow_provider_rayagent.local.ray_api import RayDashboard, Row

POLL_SECONDS = 0.5
"""Seconds between two looks at what runs on Ray, while a job waits."""
OF_A_PLUGIN = ("plugin", "action")
"""Keys of a job's metadata; a job that has them on Ray counts."""
STOPPED_HERE = "The job was stopped while it waited in the agent's queue; it never was on Ray."

_OPEN = (JobStatus.PENDING.value, JobStatus.RUNNING.value)


@dataclass(frozen=True)
class _Waiting:
    """A job that waits.

    :param request: the fields of Ray's submit call.
    :param since: when it came, in ms since the epoch.
    """

    request: Row
    since: int

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
        self._waiting: list[_Waiting] = []
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
        :raises RayUnavailableError: if Ray does not answer.
        """
        job = _Waiting(request, _now())
        async with self._lock:
            self.refuse_known(job.job_id)
            await self._refuse_known_to_ray(job.job_id)
            if not self._waiting and await self._room() > 0:
                await self._ray.submit_job(request)
                return False
            self._waiting.append(job)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.ensure_future(self._run())
        return True

    async def stop(self, job_id: str) -> bool | None:
        """Take a job that waits out of the queue: from then on it is STOPPED.

        :return: whether it waited, ``False`` if it has ended here already, ``None`` if it is none of the queue's.
        """
        async with self._lock:
            for job in self._waiting:
                if job.job_id == job_id:
                    self._waiting.remove(job)
                    self._ended[job_id] = job.ended(JobStatus.STOPPED, STOPPED_HERE)
                    return True
        return False if job_id in self._ended else None

    def ended(self) -> list[Row]:
        """Return the jobs that ended without having been on Ray, in the form of Ray's details."""
        return list(self._ended.values())

    def find_ended(self, job_id: str) -> Row | None:
        """Return one job that ended without having been on Ray, ``None`` if there is none of this id."""
        return self._ended.get(job_id)

    def refuse_known(self, job_id: str) -> None:
        """Raise if a job of this id waits, or has ended, here.

        :raises RayAnswerError: 409.
        """
        if any(job.job_id == job_id for job in self._waiting):
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
        room = await self._room()
        while self._waiting and room > 0:
            job = self._waiting[0]
            try:
                await self._ray.submit_job(job.request)
            except RayAnswerError as error:
                # 409: Ray has it from a submission whose answer was lost.
                if error.status_code != 409:
                    self._ended[job.job_id] = job.ended(JobStatus.FAILED, f"Ray did not take the job: {error}")
            else:
                room -= 1
            self._waiting.remove(job)

    async def _room(self) -> int:
        return self._limit - sum(_counts(job) for job in await self._ray.list_jobs())


def _counts(job: Row) -> bool:
    metadata = job.get("metadata") or {}
    return job.get("status") in _OPEN and all(key in metadata for key in OF_A_PLUGIN)


def _now() -> int:
    return int(time.time() * 1000)
