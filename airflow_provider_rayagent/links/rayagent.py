"""Link from a task to its job's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_rayagent.agent.errors import RayAgentError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class RayAgentJobLink(BaseOperatorLink):
    """The job's page, from the URL template ``job_url`` in the connection's extra; absent where there is none."""

    name = "Ray job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the link for the job that ``operator``, with its templates rendered, is about."""
        return job_link(operator)


def job_link(operator: Any) -> str:
    """Return the address of the page of ``operator.job_id``, empty if the connection names none."""
    try:
        return str(operator.hook.config.job_link(operator.job_id))
    except RayAgentError:
        return ""
