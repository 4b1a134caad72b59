"""Tasks and actors that wait for resources, as the page shows them. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_rayagent.services.jobs import has_ended, id_of
from airflow_provider_rayagent.text.sanitization import sanitized
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

MAX_GROUPS = 50
_STATE = "PENDING_NODE_ASSIGNMENT"
_ACTOR_TYPE = "ACTOR_CREATION_TASK"
_TYPES = {"NORMAL_TASK": "task", _ACTOR_TYPE: "actor"}
"""Types of tasks that Ray assigns to nodes. A method of an actor waits for the actor, which has a row of its own."""
_JOB_SUPERVISOR = "JobSupervisor."
"""Begins the name of the actor that starts a job (``dashboard/modules/job/job_supervisor.py``): that job waits."""


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
    for task in tasks:
        name = str(task.get("name") or task.get("func_or_class_name") or "")
        kind = _TYPES.get(str(task.get("type") or "NORMAL_TASK"))
        if task.get("state") != _STATE or kind is None or name.startswith(_JOB_SUPERVISOR):
            continue
        job_id = str(task.get("job_id") or "")
        if job_id in ended:
            continue
        resources = task.get("required_resources")
        # As text, since the key of a Counter must be hashable; sorted, since equal resources may come in any order.
        needed = json.dumps(storable(resources), sort_keys=True) if isinstance(resources, dict) else "{}"
        counts[kind, name, job_id, needed] += 1
    groups = [
        {"kind": kind, "name": name, "job_id": ids.get(job), "resources": json.loads(needed), "count": count}
        for (kind, name, job, needed), count in counts.most_common(MAX_GROUPS)
    ]
    return {"groups": sanitized(groups, redact), "total": counts.total()}
