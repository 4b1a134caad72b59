"""Link from a task to its job's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["RayAgentJobLink"]


class RayAgentJobLink(BaseOperatorLink):
    """The job's page, from the URL template ``job_url`` in the connection's extra; absent where there is none."""

    name = "Ray job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the link for the job that ``operator``, with its templates rendered, is about."""
        return job_link(operator)


def job_link(operator: Any) -> str:
    """Return the address of the page of ``operator.job_id``, empty if the connection names none or none that is good.

    Raises nothing for a connection that is not there: that is for the task's own work to say.
    """
    try:
        return str(operator.hook.config.job_link(operator.job_id))
    except (RayAgentError, AirflowException, AirflowRuntimeError):
        return ""


def push_job_link(operator: Any, context: Context) -> str:
    """Show the link from now on, and return it; Airflow itself asks for it when the task's run is over."""
    link = job_link(operator)
    if link:
        context["ti"].xcom_push(key=RayAgentJobLink().xcom_key, value=storable(link))
    return link
