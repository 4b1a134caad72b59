"""Ids for the jobs that a task starts: the same task of the same run finds its own job again. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b

from airflow_provider_rayagent.agent import wire
from airflow_provider_rayagent.agent.errors import RayAgentInputError

MAX_ROOT = 90
"""Characters of an id to which a number may be added; the agent takes 100."""
_NAME_CHARS = 60


def derived_id(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    """Return the id of the job that belongs to one task of one run.

    It begins with the DAG's and the task's name, for people, and ends in a digest of all four, which tells runs and
    mapped tasks apart.
    """
    key = "\0".join((dag_id, run_id, task_id, str(-1 if map_index is None else map_index)))
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    name = re.sub("[^a-zA-Z0-9_-]+", "-", f"{dag_id}-{task_id}")[:_NAME_CHARS].strip("-")
    return f"{name}-{digest}" if name else digest


def validate_root(job_id: object) -> str:
    """Return an id if a number may be added to it.

    :raises RayAgentInputError: if it is no id, or too long.
    """
    root = wire.validate_id(job_id, "job")
    if len(root) > MAX_ROOT:
        raise RayAgentInputError(
            f"The job id {root!r} has {len(root)} characters; a job that is started needs an id of at most {MAX_ROOT}, "
            "since another start of it gets a number."
        )
    return root


def numbered(root: str, number: int) -> str:
    """Return the id of the ``number``-th job that a task starts, from 1."""
    return root if number == 1 else f"{root}-{number}"
