"""Derive the ids of the jobs that a task starts, so that another try finds the same job. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.validation import validate_id

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BASE_ID = 90
"""Characters of an id that leaves room for a numeric suffix; the agent accepts 100."""
# With a hyphen and a digest of 16 digits, an id has up to 77 characters, fewer than MAX_BASE_ID.
_NAME_CHARS = 60
_NUMBER = re.compile(r"-\d+\Z")


def derived_id(key: Sequence[str], namespace: str = "") -> str:
    """Return the job id of one task instance.

    It starts with the DAG id and the task id, for readability, and ends with a digest of the key and the namespace.

    :param key: the unique key of the task instance; it starts with the DAG id, the run id and the task id.
    :param namespace: distinguishes Airflow deployments with the same DAGs.
    """
    dag_id, _, task_id, *_ = key
    # NUL, which is in no id, keeps (a, bc) and (ab, c) apart. A key of BLAKE2b has at most 64 bytes, hence its digest.
    # Without a namespace there must be no key: earlier versions, which had none, derived the same ids.
    digest = blake2b(
        "\0".join(key).encode(), digest_size=8, key=blake2b(namespace.encode()).digest() if namespace else b""
    ).hexdigest()
    name = re.sub("[^a-zA-Z0-9_-]+", "-", f"{dag_id}-{task_id}")[:_NAME_CHARS].strip("-")
    return f"{name}-{digest}" if name else digest


def validate_base_id(job_id: object) -> str:
    """Return a job id that leaves room for a numeric suffix.

    :raises RayAgentInputError: if it is invalid or too long.
    """
    base_id = validate_id(job_id, "job")
    if len(base_id) > MAX_BASE_ID:
        raise RayAgentInputError(
            f"The job id {base_id!r} has {len(base_id)} characters; the maximum is {MAX_BASE_ID}, since a new job of "
            "the same task gets a numeric suffix."
        )
    return base_id


def numbered(base_id: str, number: int) -> str:
    """Return the id of the ``number``-th job that a task starts, counted from 1."""
    return base_id if number == 1 else f"{base_id}-{number}"


def without_number(job_id: str) -> str:
    """Return the base id of a further job that a task started, see :func:`numbered`."""
    return _NUMBER.sub("", job_id)
