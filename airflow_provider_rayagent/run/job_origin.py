"""What a submitted job says about the task instance that submitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.run.started_by_watchers import watchers_of
from airflow_provider_rayagent.task_instance.identity import TaskIdentity
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTITY = ("airflow_dag_id", "airflow_run_id", "airflow_task_id", "airflow_map_index")
"""Names in the metadata of a job that identify its task instance."""
WAITS = "airflow_wait"
"""Name in the metadata of a job: whether its task waits for its end, ``True`` or ``False``."""


def origin_metadata(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a job: its task instance, the try, the owner of the DAG and who has started the run."""
    ti, dag_run = context["ti"], context["dag_run"]
    identity = TaskIdentity.of(ti)
    values = (identity.dag_id, identity.run_id, identity.task_id, identity.map_index)
    metadata = {name: str(value) for name, value in zip(IDENTITY, values, strict=True)}
    metadata["airflow_try_number"] = str(ti.try_number)
    metadata["airflow_owner"] = str(context["task"].owner)
    triggered_by = getattr(dag_run, "triggering_user_name", None)
    if triggered_by:
        metadata["airflow_triggered_by"] = str(triggered_by)
    return {**metadata, **watchers_of(dag_run)}


def origin_env_vars(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables ``AIRFLOW_CTX_...`` of a job, the same that Airflow's BashOperator sets."""
    from airflow.sdk.execution_time.context import context_to_airflow_vars

    return context_to_airflow_vars(context, in_env_var_format=True)


def check_origin(job: Mapping[str, Any], job_id: str, context: Mapping[str, Any]) -> None:
    """Check that an existing job was submitted by this task instance.

    :raises RayAgentInputError: if it was not, so that the task must not attach to it.
    """
    # The try is not compared: an earlier one of the same task instance may have submitted the job.
    expected, found = origin_metadata(context), job.get("metadata") or {}
    if all(found.get(name) == expected[name] for name in IDENTITY):
        return
    raise RayAgentInputError(
        f"Job {job_id} already exists and was not submitted by this task instance: its metadata does not name it. Set "
        "a job_id that is unique per run, or leave it out.",
        code=Code.JOB_ID_TAKEN,
    )
