"""What Ray's message about a FAILED job tells about the cause. Pure.

Ray reports a failure of the platform as such only if it hits the process that runs the entrypoint (``JobErrorType`` in
Ray's ``dashboard/modules/job/common.py``). If it hits a task or an actor, the program gets an exception of Ray
(``exceptions.py``), usually does not handle it, and exits with code 1. The exception then ends the log, of which Ray's
message about the job has the last 10 lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.ray_exceptions import ending_of, kind_by_words
from airflow_provider_rayagent.services.jobs import JobStatus, known_status

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG_EXCERPT = ", last available logs"
"""Text in Ray's message before the last lines of the log."""
_MAX_EXCERPT = 20_000
"""Characters of them, Ray's own limit (``dashboard/modules/job/job_log_storage_client.py``)."""
_UNHANDLED_EXCEPTION = 1
"""Python's exit code after one."""
_KINDS_BY_ERROR_TYPE = {
    "RUNTIME_ENV_SETUP_FAILURE": FailureKind.RUNTIME_ENV,
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": FailureKind.START_TIMEOUT,
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": FailureKind.JOB_LOST,
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": FailureKind.RESOURCES,
    "JOB_SUPERVISOR_ACTOR_DIED": FailureKind.WORKER_LOST,
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": FailureKind.JOB_LOST,
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": FailureKind.JOB_LOST,
}
_DIED = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
"""Types whose message tells why the process that runs the entrypoint died; the second one if Ray killed it."""
_COMMAND_FAILED = "JOB_ENTRYPOINT_COMMAND_ERROR"
_FROM_ELSEWHERE = re.compile(r"(?:\x1b\[[\d;]*m)*\(")
"""A line of a worker or of Ray, such as ``(raylet) …``."""


def kind_of_job(job: Mapping[str, Any]) -> FailureKind | None:
    """Return why a job FAILED; ``None`` if that is unknown, or if it has another status."""
    if known_status(job) is not JobStatus.FAILED:
        return None
    error_type, message = str(job.get("error_type")), str(job.get("message") or "")
    if error_type != _COMMAND_FAILED:
        by_words = kind_by_words(message) if error_type in _DIED else None
        # The process that runs the entrypoint is Ray's.
        return by_words if by_words not in (None, FailureKind.PROGRAM) else _KINDS_BY_ERROR_TYPE.get(error_type)
    if job.get("driver_exit_code") != _UNHANDLED_EXCEPTION:
        return FailureKind.PROGRAM
    return ending_of(_own_lines(job)).kind


def exception_of_ray(job: Mapping[str, Any]) -> str | None:
    """Return the type of Ray's exception that ended the program of a FAILED job, such as ``ActorDiedError``.

    :return: empty if Ray's message does not have the lines that would tell it; ``None`` if something else has ended the
        program, such as an exception of its own.
    """
    if job.get("error_type") != _COMMAND_FAILED or job.get("driver_exit_code") != _UNHANDLED_EXCEPTION:
        return None
    lines = _own_lines(job)
    if not lines and LOG_EXCERPT in str(job.get("message")):
        # Lines of workers have displaced all of the program's.
        return ""
    return ending_of(lines).exception


def _own_lines(job: Mapping[str, Any]) -> list[str]:
    """Return the last lines of the program itself in Ray's message about a job."""
    # The rest of that line is ` (truncated to 20,000 chars):` (`job_supervisor.py`).
    text = str(job.get("message") or "").partition(LOG_EXCERPT)[2].partition("\n")[2][-_MAX_EXCERPT:]
    # Workers and Ray write into the same log meanwhile, also in the middle of a traceback.
    return [line for line in text.rstrip().split("\n") if line and not _FROM_ELSEWHERE.match(line)]
