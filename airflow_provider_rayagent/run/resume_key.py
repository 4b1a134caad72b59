"""The resume key: what tells a job of the earlier jobs of its task, whose work it can continue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.run.job_ids import numbered
from airflow_provider_rayagent.task_instance.task_state_store import TaskStateStore

if TYPE_CHECKING:
    from airflow.sdk import Context

SUCCESSES_KEY = "rayagent_successes"
"""Key in the task state store: how many jobs of a task that runs again after a success have succeeded."""
RESUME_KEY_VAR = "RAYAGENT_RESUME_KEY"
"""Environment variable of a job: the same for all jobs of a task until one of them has succeeded."""
PREVIOUS_JOB_VAR = "RAYAGENT_PREVIOUS_JOB_ID"
"""Environment variable of a job: the job with the same :data:`RESUME_KEY_VAR` before it, if there is one."""


def resume_env_vars(base_id: str, successes: int, previous: str | None) -> dict[str, str]:
    """Return the environment variables of a new job.

    :param base_id: the id of the task's jobs without a number.
    :param successes: how many jobs of the task have succeeded.
    :param previous: id of the last job, unless it has succeeded.
    """
    env_vars = {RESUME_KEY_VAR: numbered(base_id, successes + 1)}
    return env_vars if previous is None else {**env_vars, PREVIOUS_JOB_VAR: previous}


def stored_successes(stored: TaskStateStore) -> int:
    """Return how many jobs of the task have succeeded, as far as it is stored."""
    count = stored.get(SUCCESSES_KEY)
    return count if isinstance(count, int) else 0


def store_success(context: Context) -> None:
    """Store for later tries that one more job of the task has succeeded."""
    stored = TaskStateStore(context)
    stored.try_set(SUCCESSES_KEY, stored_successes(stored) + 1)
