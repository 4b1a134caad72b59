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
    summary: dict[str, Any] = {name: _primitive(job.get(name), redact) for name in _FIELDS}
    summary["job_id"] = summary["job_id"] or summary["submission_id"] or job_id
    summary["duration"] = _duration(job)
    summary["metadata"] = _metadata(job.get("metadata"), redact)
    return summary


def describe(job: Mapping[str, Any], job_id: str) -> str:
    """Return one sentence for the task log: which job, its status, since when, how long."""
    words = [f"Job {job_id} is {job.get('status')}"]
    start = _moment(job.get("start_time"))
    if start is not None:
        words.append(f"started {start:%Y-%m-%d %H:%M:%S} UTC")
    duration = _duration(job)
    if has_ended(job) and duration is not None:
        words.append(f"ran {duration:.1f} s")
    if job.get("entrypoint"):
        words.append(f"entrypoint: {_cut(str(job['entrypoint']), 200)}")
    return ", ".join(words) + "."


def why_it_ended(job: Mapping[str, Any], job_id: str) -> str:
    """Return why a job did not succeed, in Ray's words: status, error type, exit code, message."""
    details = [
        f"{name}: {job[key]}"
        for name, key in (("error", "error_type"), ("exit code", "driver_exit_code"))
        if _said(job, key)
    ]
    reason = f" ({', '.join(details)})" if details else ""
    message = f"\n{_cut(str(job['message']).strip(), MAX_TEXT)}" if _said(job, "message") else ""
    return f"Job {job_id} ended as {job.get('status')}{reason}.{message}"


def _said(job: Mapping[str, Any], key: str) -> bool:
    return job.get(key) not in (None, "")


def _duration(job: Mapping[str, Any]) -> float | None:
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
    return _storable(json.loads(text), redact) if len(text) <= MAX_METADATA else f"left out: {len(text)} characters"


def _primitive(value: object, redact: Callable[[str], str]) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _cut(str(_storable(str(value), redact)), MAX_TEXT)


def _storable(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value without secrets, and without what a database's JSON column refuses: NUL, half characters."""
    if isinstance(value, str):
        return redact(_UNSTORABLE.sub("\ufffd", value))
    if isinstance(value, dict):
        return {_storable(key, redact): _storable(item, redact) for key, item in value.items()}
    return [_storable(item, redact) for item in value] if isinstance(value, list) else value


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… [{len(text) - length} characters cut]"
