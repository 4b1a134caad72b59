"""Describe a job's details for the task log, and summarize them for XCom. Pure."""

from __future__ import annotations

import json
import math
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, cast

from airflow_provider_rayagent.services.validation import JobId, is_id
from airflow_provider_rayagent.text.sanitization import sanitize, truncate
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.text.times import moment_of, shown_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

Primitive: TypeAlias = str | int | float | bool | None
# The message of a FAILED job quotes up to 20,000 characters of its log
# (``dashboard/modules/job/job_log_storage_client.py``), and an XCom is a row of Airflow's database.
MAX_TEXT = 4_000
"""Characters of one text in a summary; a longer one is truncated with a note."""
MAX_METADATA = 4_000
"""Characters of a summary's metadata as JSON; a note replaces larger metadata."""
MAX_STATUS = 100
"""Characters of a status that is unknown to Ray."""
MAX_ENTRYPOINT = 200
"""Characters of the entrypoint in a message."""

_FIELDS = (
    "submission_id",
    "type",
    "status",
    "message",
    "error_type",
    "entrypoint",
    "start_time",
    "end_time",
    "driver_exit_code",
    "driver_node_id",
)


class JobSummary(TypedDict, total=False):
    """A job's details in XCom. A value that is not a JSON primitive is converted to a string."""

    job_id: str
    submission_id: Primitive
    type: Primitive
    status: Primitive
    message: Primitive
    error_type: Primitive
    entrypoint: Primitive
    start_time: Primitive
    """In ms since the epoch, like ``end_time``."""
    end_time: Primitive
    driver_exit_code: Primitive
    driver_node_id: Primitive
    driver_job_id: Primitive
    duration: float | None
    """In seconds."""
    metadata: Any
    result: Any


class JobStatus(str, Enum):
    """Status of a job (``ray.job_submission.JobStatus``)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended; a terminal status never changes."""
        return self in (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED)


def known_status(job: Mapping[str, Any]) -> JobStatus | None:
    """Return the job's status, or ``None`` if it is unknown to Ray."""
    try:
        return JobStatus(job.get("status"))
    except ValueError:
        return None


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether the job has ended; a job with an unknown status has ended if it has an end time."""
    # Nothing that a newer Ray reports may make a task wait for ever.
    status = known_status(job)
    return bool(job.get("end_time")) if status is None else status.is_terminal


def id_of(job: Mapping[str, Any]) -> str:
    """Return the id by which a job can be requested, or that of its driver, which cannot."""
    return str(job.get("submission_id") or job.get("job_id") or "")


def ended_before(jobs: Iterable[Mapping[str, Any]], limit: float) -> list[JobId]:
    """Return the ids of the submitted jobs that ended before a point in time.

    :param limit: in ms since the epoch.
    """
    return [
        JobId(job_id)
        for job in jobs
        if is_id(job_id := job.get("submission_id"))
        and has_ended(job)
        and (milliseconds(job.get("end_time")) or math.inf) < limit
    ]


def newest_first(jobs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return jobs sorted by start time; those that have not started come first."""
    return sorted(jobs, key=lambda job: (milliseconds(job.get("start_time")) or math.inf, id_of(job)), reverse=True)


def shown_status(job: Mapping[str, Any], redact: Callable[[str], str] = str) -> str:
    """Return the status of a job or an application, sanitized for messages."""
    return sanitize(str(job.get("status")), redact, length=MAX_STATUS)


def summarize(job: Mapping[str, Any], job_id: str, redact: Callable[[str], str] = str) -> JobSummary:
    """Return a small summary of a job's details for XCom, without ``runtime_env``, which may contain secrets.

    Its ``job_id`` is the given id, under which the agent knows the job. The id of the job's driver in Ray, which the
    agent calls ``job_id``, is ``driver_job_id``.

    :param redact: redacts secrets; Ray's message contains the last lines that the job printed.
    """
    summary = {
        "job_id": job_id,
        **{name: primitive(job.get(name), redact) for name in _FIELDS},
        "driver_job_id": primitive(job.get("job_id"), redact),
        "duration": duration_of(job),
        "metadata": _metadata(job.get("metadata"), redact),
    }
    return cast("JobSummary", storable(summary))


def describe(
    job: Mapping[str, Any],
    job_id: str,
    where: str = "",
    *,
    redact: Callable[[str], str] = str,
    is_first: bool = True,
    names_entrypoint: bool = True,
) -> str:
    """Return one sentence for the task log: the job's id, status, duration, submission time, entrypoint and agent.

    :param is_first: whether to tell what does not change, too.
    :param names_entrypoint: whether the entrypoint is one of these facts.
    """
    ended, duration = has_ended(job), duration_of(job)
    after = f" after {duration:.1f} s" if ended and duration is not None else ""
    facts = [f"Job {job_id} is {shown_status(job, redact)}{after}"]
    # Ray sets it when it accepts the job (``submit_job`` in ``ray/dashboard/modules/job/job_manager.py``).
    submitted = milliseconds(job.get("start_time"))
    if is_first and submitted is not None:
        facts.append(f"submitted {shown_time(submitted)}")
    if is_first and names_entrypoint and job.get("entrypoint"):
        facts.append(f"entrypoint: {sanitize(str(job['entrypoint']), redact, length=MAX_ENTRYPOINT)}")
    if is_first and where and not ended:
        facts.append(f"at {where}")
    return ", ".join(facts) + "."


def node_of(job: Mapping[str, Any], redact: Callable[[str], str] = str) -> str | None:
    """Return the id of the node on which a job's driver runs or ran, or ``None`` if that is unknown.

    :param redact: redacts secrets; an id that contains one is none.
    """
    node_id = job.get("driver_node_id")
    return node_id if is_id(node_id) and redact(node_id) == node_id else None


def duration_of(job: Mapping[str, Any]) -> float | None:
    """Return how long a job ran in seconds, or ``None`` if that is unknown."""
    start, end = milliseconds(job.get("start_time")), milliseconds(job.get("end_time"))
    return (end - start) / 1000 if start is not None and end is not None and start <= end else None


def ended_at(job: Mapping[str, Any]) -> float | None:
    """Return when a job ended, in seconds since the epoch, or ``None`` if that is unknown."""
    end = milliseconds(job.get("end_time"))
    return None if end is None else end / 1000


def started_at(job: Mapping[str, Any]) -> datetime | None:
    """Return when a job was submitted or started, or ``None`` if that is unknown."""
    start = milliseconds(job.get("start_time"))
    return None if start is None else moment_of(start)


def milliseconds(value: object) -> float | None:
    """Return a time in ms since the epoch, or ``None`` if it is invalid or beyond a few thousand years."""
    # 1e14 is in the year 5138; datetime raises an error after the year 9999.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e14:
        return None
    return value


def _metadata(value: object, redact: Callable[[str], str]) -> Any:
    if not value:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return "left out: not plain JSON"
    return storable(value, redact) if len(text) <= MAX_METADATA else f"left out: {len(text)} characters"


def primitive(value: object, redact: Callable[[str], str]) -> Primitive:
    """Return a value as a JSON primitive; text is redacted and truncated."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return truncate(redact(str(value)), MAX_TEXT)
