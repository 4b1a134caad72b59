"""Requests of the page to the services, one for each thing that it shows. All viewers share the results."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentTimeoutError,
)
from airflow_provider_rayagent.failures.failure_look import LOOK_SECONDS, FailureLook
from airflow_provider_rayagent.hooks.connection_check import describe_refusal
from airflow_provider_rayagent.services.cluster_resources import FIELDS
from airflow_provider_rayagent.services.jobs import JobStatus, known_status, newest_first
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.text.sanitization import sanitized
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.ui.following_tasks import FollowingTasks, find_following_tasks
from airflow_provider_rayagent.ui.orphans import examine
from airflow_provider_rayagent.ui.page_thread import page_thread, rest
from airflow_provider_rayagent.ui.shared import FRESH_SECONDS, SharedResults
from airflow_provider_rayagent.waits import application_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Operation
    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.ui.user_connections import ViewedService

T = TypeVar("T")

log = logging.getLogger(__name__)

ENDED_SECONDS = 300.0
"""How long the records of a job that has ended are used: they do not change, but they can be lost."""

# Used only in the loop of the page's thread, so it needs no lock.
_shared = SharedResults()


class ServiceResult(NamedTuple):
    """The result of a request to a service.

    :param config: the configuration of the connection.
    :param at: when, on the monotonic clock.
    """

    value: Any
    config: ServiceConfig
    at: float

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


async def jobs_of(viewed: ViewedService) -> ServiceResult:
    """Return the details of all jobs, newest first."""
    return await _get(viewed, "jobs", lambda service: service.list_jobs(), lambda jobs, _: newest_first(jobs))


async def orphans_of(viewed: ViewedService) -> ServiceResult:
    """Return the details of the jobs that are orphans, newest first."""
    jobs = await jobs_of(viewed)

    async def fetch() -> list[Any]:
        found = await asyncio.to_thread(examine, jobs.value, jobs.config.job_namespace)
        return [job for job, _, left_because in found if not left_because]

    return jobs._replace(value=await page_thread.run(_shared.get((viewed, "orphans"), fetch)))


async def job_of(viewed: ViewedService, job_id: JobId) -> ServiceResult:
    """Return the details of one job."""
    return await _get(viewed, f"job {job_id}", lambda service: service.get_job(job_id))


async def look_at_failure(viewed: ViewedService, job_id: JobId, job: ServiceResult) -> FailureLook | None:
    """Return what Ray has recorded about a FAILED job; ``None`` for any other, and if Ray takes long.

    :param job: the result of :func:`job_of`.
    """
    if known_status(job.value) is not JobStatus.FAILED:
        return None
    look = FailureLook(job.config.service, job.value, time.time())

    async def fetch() -> FailureLook:
        try:
            await asyncio.wait_for(_send(viewed, lambda _: look.steps()), LOOK_SECONDS)
        except asyncio.TimeoutError:
            look.note = "Ray did not tell all that it has recorded about this job."
        except Exception:  # noqa: BLE001 - what is known without these records is shown in any case
            look.note = "What Ray recorded about this job could not be read."
            log.debug("The look at a failed job has failed.", exc_info=True)
        return look

    # With its end: after a restart of its head, Ray may give the id to another job.
    key = (viewed, f"failure of {job_id}", str(job.value.get("end_time")))
    try:
        return await page_thread.run(_shared.get(key, fetch, fresh=_fresh_seconds))
    except RayAgentTimeoutError:
        return None


def _fresh_seconds(look: FailureLook) -> float:
    return ENDED_SECONDS if look.is_complete else FRESH_SECONDS


async def resources_of(viewed: ViewedService) -> ServiceResult:
    """Return the resources of the cluster, in total and by node."""
    return await _get(viewed, "resources", lambda service: service.get_capacity(), _resources)


async def waiting_tasks_of(viewed: ViewedService) -> ServiceResult:
    """Return the states of the cluster's tasks, at least of those that wait for resources."""
    return await _get(viewed, "tasks", lambda service: service.list_waiting_tasks())


async def applications_of(viewed: ViewedService) -> ServiceResult:
    """Return the summaries of the Serve applications."""
    return await _get(viewed, "applications", lambda service: service.list_serve_applications(), _summaries)


async def following_tasks() -> FollowingTasks:
    """Return the task instances that follow jobs at present, from Airflow's database; none while that takes long."""
    try:
        # In another thread: the database driver blocks, and this loop follows logs.
        return await page_thread.run(_shared.get("following_tasks", lambda: asyncio.to_thread(find_following_tasks)))
    except RayAgentTimeoutError:
        return FollowingTasks({}, {})


async def stop_job(viewed: ViewedService, job_id: JobId) -> None:
    """Request the stop of a job."""
    await _change(viewed, lambda service: service.stop_job(job_id), "jobs", f"job {job_id}")


async def delete_application(viewed: ViewedService, name: str) -> None:
    """Request the deletion of a Serve application."""
    await _change(viewed, lambda service: service.delete_serve_application(name), "applications")


async def _get(
    viewed: ViewedService,
    what: str,
    make: Callable[[Service], Operation],
    convert: Callable[[Any, Redactor], Any] = lambda value, _: value,
) -> ServiceResult:
    async def fetch() -> ServiceResult:
        result = await _send(viewed, make)
        rest()
        return result._replace(value=convert(result.value, result.config.redact))

    return await page_thread.run(_shared.get((viewed, what), fetch))


async def _change(viewed: ViewedService, make: Callable[[Service], Operation], *changed: str) -> None:
    """Send a request that changes something.

    :param changed: results that must not be used any more.
    """

    async def change() -> None:
        await _send(viewed, make)
        _shared.forget(*((viewed, what) for what in changed))

    await page_thread.run(change())


async def _send(viewed: ViewedService, make: Callable[[Service], Operation]) -> ServiceResult:
    async with viewed.hook() as hook:
        agent = await hook.get_async_conn()
        try:
            # One try, since the page asks again after some seconds.
            return ServiceResult(await agent.send(make(agent.config.service), tries=1), agent.config, time.monotonic())
        except RayAgentHTTPError as error:
            if error.status_code not in REJECTED:
                raise
            raise RayAgentError(describe_refusal(agent.config, error.status_code), error.status_code) from error


def _resources(found: dict[str, Any], redact: Redactor) -> Any:
    # No other fields: an object that has none of these is the answer of another server. Storable values are JSON: NaN
    # is none, and would be an error of the route.
    return sanitized(storable({name: found[name] for name in FIELDS if name in found}), redact)


def _summaries(found: list[dict[str, Any]], redact: Redactor) -> list[Any]:
    return [sanitized(application_wait.summarize(each, redact)) for each in found]
