"""The checks of ``airflow rayagent doctor``: the connection, and the log of one job."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.cli.log_checks import check_log
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.connection_check import Finding, Result, check_connection, explain_failure
from airflow_provider_rayagent.services.jobs import JobStatus, started_at
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_rayagent.connection.config import ServiceConfig

    Job = Mapping[str, Any]

CHECKS = ("versions", "connection", "links", "jobs", "job log", "WebSocket", "SSE")
"""The checks, in the order of their lines. Those after a connection or jobs that are wrong are left out."""


def diagnose(config: ServiceConfig, job_id: str | None = None) -> Iterator[Finding]:
    """Yield the findings of :data:`CHECKS`, each as it is found.

    :param job_id: the job whose log is read; ``None``: the newest that runs, or the newest.
    :raises RayAgentConfigError: for an invalid connection.
    :raises RayAgentInputError: for an invalid job id.
    """
    if job_id is not None:
        validate_job_id(job_id)
    versions = f"provider {__version__}, Airflow {airflow_version}, Python {platform.python_version()}."
    yield Finding("versions", Result.OK, versions)
    with BlockingServiceClient(config) as client:
        for finding in check_connection(client):
            yield finding
            if finding.check == "connection" and finding.result is Result.PROBLEM:
                return
        try:
            jobs = client.send(config.service.list_jobs())
        except RayAgentError as error:
            yield Finding("jobs", Result.PROBLEM, explain_failure(client, error))
            return
        yield Finding("jobs", Result.OK, f"The service lists its jobs: {len(jobs)}.")
        chosen = job_id or _newest(jobs)
        if chosen is None:
            yield Finding("job log", Result.NOT_APPLICABLE, "The service has no job whose log can be read.")
        else:
            yield from check_log(client, validate_job_id(chosen))


def _newest(jobs: Sequence[Job]) -> str | None:
    """Return the id of the newest job that runs, since only its streams show whether a proxy buffers; or the newest."""

    def rank(job: Job) -> tuple[bool, float]:
        start = started_at(job)
        return job.get("status") == JobStatus.RUNNING.value, start.timestamp() if start else 0.0

    submitted = [job for job in jobs if isinstance(job.get("submission_id"), str)]
    newest = max(submitted, key=rank, default=None)
    return None if newest is None else str(newest["submission_id"])
