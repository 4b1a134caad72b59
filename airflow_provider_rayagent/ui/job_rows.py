"""Jobs as the page shows them: filtered, sorted, and without anything secret. Pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_rayagent.failures.explanation import explain
from airflow_provider_rayagent.services.job_secrets import redactor_of, without_masked_names
from airflow_provider_rayagent.services.jobs import JobStatus, id_of, known_status, summarize
from airflow_provider_rayagent.services.validation import is_id
from airflow_provider_rayagent.text.sanitization import sanitize, sanitized
from airflow_provider_rayagent.ui.page_thread import resting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.failures.failure_look import FailureLook
    from airflow_provider_rayagent.text.redaction import Redactor

    Job = Mapping[str, Any]

OTHER = "OTHER"
"""Stands for every status that is unknown to Ray."""
STATUSES = (*(status.value for status in JobStatus), OTHER)
MAX_LIMIT = 200
"""Jobs in one response."""
PORTION = 500
"""Jobs that are processed without a rest for other threads."""
MAX_ENTRYPOINT = 2_000
"""Characters of an entrypoint."""
_LINKS = {"metrics_url": "Metrics", "logs_url": "Logs", "history_url": "History"}
"""Names of links by the connection's field. Not the job's page, which would say the same as this one."""
_LONG_FIELDS = ("message",)
"""Fields of the details that a list does not have."""


class JobPage(TypedDict):
    """One part of a list of jobs.

    ``total`` is the number of jobs that match, and ``counts`` has that of each status before the filter by status.
    """

    jobs: list[dict[str, Any]]
    total: int
    counts: dict[str, int]


def page_of(
    jobs: Sequence[Job], redact: Redactor, *, statuses: Sequence[str] = (), text: str = "", offset: int, limit: int
) -> JobPage:
    """Return the jobs that match, from the ``offset``-th on.

    :param jobs: details as received, newest first.
    :param statuses: of :data:`STATUSES`; none: all.
    :param text: a part of the id, the entrypoint, or the metadata, in lower or upper case.
    :param redact: redacts the secrets of the connection.
    """
    words = text.casefold().strip()
    found = [job for job in resting(jobs, PORTION) if not words or _contains(job, words, redact)]
    counts = dict.fromkeys(STATUSES, 0)
    for job in resting(found, PORTION):
        counts[_status(job)] += 1
    matching = [job for job in found if not statuses or _status(job) in statuses]
    # One by one: a job's environment may contain many secrets, each of which is looked for.
    shown = [_row(job, redact) for job in resting(matching[offset : offset + limit], 1)]
    return {"jobs": shown, "total": len(matching), "counts": counts}


def details_of(job: Job, job_id: str, config: ServiceConfig, look: FailureLook | None = None) -> dict[str, Any]:
    """Return the details of a job.

    ``reason`` is why it did not succeed, in the words of the task log; ``links`` has name and URL of pages about it.

    :param look: what Ray has recorded about the job, if it FAILED.
    """
    redact = redactor_of(job, config.redact)
    failed = known_status(job) in (JobStatus.FAILED, JobStatus.STOPPED)
    reason = explain(job, job_id, look, log_is_shown=True, redact=redact).text if failed else None
    urls = config.page_urls(job_id, job, start=time.time())
    links = [{"name": name, "url": urls[field]} for field, name in _LINKS.items() if field in urls]
    return {**_shown(job, job_id, redact), "reason": reason, "links": links}


def _shown(job: Job, job_id: str, redact: Redactor) -> dict[str, Any]:
    """Return the details without ``runtime_env``; a job that can be requested by its id is ``openable``."""
    summary = summarize(without_masked_names(job), job_id, redact)
    summary["entrypoint"] = sanitize(str(job.get("entrypoint") or ""), redact, length=MAX_ENTRYPOINT)
    # Drivers have no submission id, and Ray runs jobs under ids that the routes reject.
    return {**sanitized(summary), "openable": is_id(job.get("submission_id"))}


def _row(job: Job, redact: Redactor) -> Any:
    shown = _shown(job, id_of(job), redactor_of(job, redact))
    return {name: value for name, value in shown.items() if name not in _LONG_FIELDS}


def _status(job: Job) -> str:
    status = known_status(job)
    return OTHER if status is None else status.value


def _contains(job: Job, words: str, redact: Redactor) -> bool:
    text = f"{id_of(job)}\n{job.get('entrypoint')}\n{job.get('metadata')}"
    # Redacted only if it matches, for speed; a secret must not be found by its parts.
    return words in text.casefold() and words in redactor_of(job, redact)(text).casefold()
