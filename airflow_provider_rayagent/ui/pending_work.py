"""Tasks and actors that wait for resources, as the page shows them. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_rayagent.activity.demands import waiting_demands
from airflow_provider_rayagent.services.jobs import has_ended, id_of
from airflow_provider_rayagent.text.sanitization import sanitized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

MAX_GROUPS = 50


class WaitingTasks(TypedDict):
    """Tasks and actors that wait.

    ``groups`` has those of the same name, job and resources together, the largest first; ``total`` counts each of them.
    """

    groups: list[dict[str, Any]]
    total: int


def waiting_tasks(tasks: Iterable[Row], jobs: Sequence[Row], redact: Callable[[str], str]) -> WaitingTasks:
    """Return the tasks and actors that wait for resources.

    :param tasks: rows of Ray's state API.
    :param jobs: details as received; they have the ids of the jobs in Ray and in the page.
    :param redact: redacts the secrets of the connection.
    """
    # As text, since an id in an unknown form may not be hashable.
    ids = {str(job["job_id"]): id_of(job) for job in jobs if job.get("job_id") and job.get("submission_id")}
    # Ray calls the tasks of an ended job pending for 15 more seconds (``gcs_mark_task_failed_on_job_done_delay_ms``).
    ended = {str(job["job_id"]) for job in jobs if job.get("job_id") and has_ended(job)}
    counts: Counter[tuple[str, ...]] = Counter()
    for demand, count in waiting_demands(tasks).items():
        if demand.job_id not in ended:
            counts[demand.kind, demand.name, demand.job_id, demand.needed] += count
    groups = [
        {"kind": kind, "name": name, "job_id": ids.get(job), "resources": json.loads(needed), "count": count}
        for (kind, name, job, needed), count in counts.most_common(MAX_GROUPS)
    ]
    return {"groups": sanitized(groups, redact), "total": counts.total()}
