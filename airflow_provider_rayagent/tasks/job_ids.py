"""Ids for the jobs that a task starts: the same task of the same run finds its own job again. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.errors import RayAgentInputError
from airflow_provider_rayagent.client.validation import validate_id

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ROOT = 90
"""Characters of an id to which a number may be added; the agent takes 100."""
_NAME_CHARS = 60


def derived_id(key: Sequence[str], namespace: str = "") -> str:
    """Return the id of the job that belongs to one task instance.

    It begins with the DAG's and the task's name, for people, and ends in a digest of the whole key and the namespace.

    :param key: what tells the task instance apart from all others; it begins with the ids of the DAG, the run and the
        task.
    :param namespace: what tells the Airflow deployment apart from others with the same DAGs.
    """
    dag_id, _, task_id, *_ = key
    digest = blake2b(
        "\0".join(key).encode(), digest_size=8, key=blake2b(namespace.encode()).digest() if namespace else b""
    ).hexdigest()
    name = re.sub("[^a-zA-Z0-9_-]+", "-", f"{dag_id}-{task_id}")[:_NAME_CHARS].strip("-")
    return f"{name}-{digest}" if name else digest


def validate_root(job_id: object) -> str:
    """Return an id if a number may be added to it.

    :raises RayAgentInputError: if it is no id, or too long.
    """
    root = validate_id(job_id, "job")
    if len(root) > MAX_ROOT:
        raise RayAgentInputError(
            f"The job id {root!r} has {len(root)} characters; a job that is started needs an id of at most {MAX_ROOT}, "
            "since another start of it gets a number."
        )
    return root


def numbered(root: str, number: int) -> str:
    """Return the id of the ``number``-th job that a task starts, from 1."""
    return root if number == 1 else f"{root}-{number}"
