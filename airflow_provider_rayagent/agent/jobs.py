"""What a job's details say, in words and in a form that is fit for XCom. Pure."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.agent.wire import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_TEXT = 4_000
"""Characters of one text in a summary; a longer one is cut visibly."""
MAX_METADATA = 4_000
"""Characters of a summary's metadata as JSON; larger metadata is left out, and said to be."""

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_FIELDS = (
    "job_id",
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


def known_status(job: Mapping[str, Any]) -> JobStatus | None:
    """Return the job's status, ``None`` if it is not one of Ray's."""
    try:
        return JobStatus(job.get("status"))
    except ValueError:
        return None


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether the job has ended; a status that is not known counts as an end if there is an end time."""
    status = known_status(job)
    return bool(job.get("end_time")) if status is None else status.is_terminal


def summarize(job: Mapping[str, Any], job_id: str, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """Return what of a job's details goes to XCom: JSON primitives, small, without ``runtime_env`` (secrets).

    :param job_id: the id that was asked for; it stands in where the details have none.
    :param redact: takes secrets out of a text; a job may have printed one, and Ray's message has its last lines.
    """
    summary: dict[str, Any] = {name: primitive(job.get(name), redact) for name in _FIELDS}
    summary["job_id"] = summary["job_id"] or summary["submission_id"] or job_id
    summary["duration"] = duration_of(job)
    summary["metadata"] = _metadata(job.get("metadata"), redact)
    return summary


def describe(job: Mapping[str, Any], job_id: str, where: str = "") -> str:
    """Return one sentence for the task log: which job, its status, since when, how long, where."""
    words = [f"Job {job_id} is {job.get('status')}"]
    start = _moment(job.get("start_time"))
    if start is not None:
        words.append(f"started {start:%Y-%m-%d %H:%M:%S} UTC")
    duration = duration_of(job)
    if has_ended(job) and duration is not None:
        words.append(f"ran {duration:.1f} s")
    if job.get("entrypoint"):
        words.append(f"entrypoint: {cut(str(job['entrypoint']), 200)}")
    if where and not has_ended(job):
        words.append(f"agent: {where}")
    return ", ".join(words) + "."


def duration_of(job: Mapping[str, Any]) -> float | None:
    """Return how long a job ran, in seconds, ``None`` if that is not known."""
    start, end = job.get("start_time"), job.get("end_time")
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and 0 < start <= end:
        return (end - start) / 1000
    return None


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e14:
        return None
    return datetime.fromtimestamp(value / 1000, tz=timezone.utc)


def _metadata(value: object, redact: Callable[[str], str]) -> Any:
    if not value:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return "left out: not plain JSON"
    return storable(json.loads(text), redact) if len(text) <= MAX_METADATA else f"left out: {len(text)} characters"


def primitive(value: object, redact: Callable[[str], str]) -> str | int | float | bool | None:
    """Return a value as a JSON primitive: a text without secrets, and cut."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return cut(str(storable(str(value), redact)), MAX_TEXT)


def storable(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value without secrets, and without what a database's JSON column refuses: NUL, half characters."""
    if isinstance(value, str):
        return redact(_UNSTORABLE.sub("\ufffd", value))
    if isinstance(value, dict):
        return {storable(key, redact): storable(item, redact) for key, item in value.items()}
    return [storable(item, redact) for item in value] if isinstance(value, list) else value


def cut(text: str, length: int) -> str:
    """Return a text, or its beginning and how much more there is."""
    return text if len(text) <= length else f"{text[:length]}… [{len(text) - length} characters cut]"
