"""Link from a task to the page of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentInputError
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["RayAgentJobLink"]


class RayAgentJobLink(BaseOperatorLink):
    """The page of the task's job, from the URL template ``job_url`` in the connection's extra.

    Without it, the page is that of Ray's dashboard over plain Ray, and there is no link over an agent.
    """

    name = "Ray job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the link for the job of ``operator``, whose templates are rendered."""
        return job_link(operator)


class PrintedLink(BaseOperatorLink):
    """A link that the job prints while it runs.

    :param name: its name, in the job's message and on the button.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The name of the button."""
        return self._name

    @property
    def xcom_key(self) -> str:
        """The key of the XCom with the URL."""
        return f"_link_{type(self).__name__}_{self._name}"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the URL that the job of ``operator`` has printed; empty if there is none."""
        return str(operator.printed_link(self._name))


def printed_links(names: Sequence[str], taken: Collection[str]) -> list[PrintedLink]:
    """Return the links for an argument ``job_links``.

    :param taken: names of other buttons of the task.
    :raises RayAgentInputError: if a name is invalid or taken.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise RayAgentInputError(f"job_links must be a list of names, not {names!r:.100}.")
    for name in names:
        if name in taken:
            raise RayAgentInputError(f"job_links has the name {name!r}, which another button of the task has.")
    return [PrintedLink(name) for name in names]


def job_link(operator: Any) -> str:
    """Return the URL of the page of ``operator.job_id``, empty if it has none or ``job_url`` is invalid.

    A missing connection is not an error here: the task itself reports it.
    """
    try:
        return str(operator.hook.config.job_link(operator.job_id))
    # Airflow asks for the link of a task that failed early, too: its job id can be invalid or missing.
    except (RayAgentError, AirflowException, AirflowRuntimeError):
        return ""


def push_job_link(operator: Any, context: Context) -> str:
    """Show the link from now on, and return it.

    Airflow itself calls ``get_link`` only at the end of a run (``airflow/sdk/execution_time/task_runner.py``).
    """
    link = job_link(operator)
    if link:
        context["ti"].xcom_push(key=RayAgentJobLink().xcom_key, value=storable(link))
    return link
