"""Links from a task to pages about its job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from airflow_provider_rayagent.connection.job_links import JobLinks
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.task_instance.xcoms import push_xcom

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["RayAgentHistoryLink", "RayAgentJobLink", "RayAgentLogsLink", "RayAgentMetricsLink"]

log = logging.getLogger(__name__)


class _PageLink(BaseOperatorLink):
    """A page about the task's job."""

    field: ClassVar[str]
    """The field of the connection with the URL template."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the link for the job of ``operator``, whose templates are rendered; empty if there is none."""
        links = getattr(operator, "job_links", None) or links_of(operator)
        # Airflow calls this at the end of a run: where the job's details were never read, the links are made without.
        links.update(None)
        return links.known.get(self.field, "")


class RayAgentJobLink(_PageLink):
    """The page of the task's job, from the URL template ``job_url`` in the connection's extra.

    Without it, the page is that of Ray's dashboard over plain Ray, and there is no link over an agent.

    The operators and sensors of this package that have a job show all links. An operator of your own needs the
    attributes ``job_id`` and ``hook``:

    .. code-block:: python

        from airflow.sdk import BaseOperator

        from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
        from airflow_provider_rayagent.links.rayagent import RayAgentJobLink


        class RetrainOperator(BaseOperator):
            operator_extra_links = (RayAgentJobLink(),)
            job_id = "train-20260131"

            @property
            def hook(self):
                return RayAgentHook("rayagent_default")
    """

    name = "Ray job"
    field = "job_url"


class RayAgentMetricsLink(_PageLink):
    """The metrics of the task's job, from the URL template ``metrics_url`` in the connection's extra.

    For an operator of your own, see :class:`RayAgentJobLink`:

    .. code-block:: python

        from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, RayAgentMetricsLink

        operator_extra_links = (RayAgentJobLink(), RayAgentMetricsLink())
    """

    name = "Ray metrics"
    field = "metrics_url"


class RayAgentLogsLink(_PageLink):
    """The collected logs of the task's job, from the URL template ``logs_url`` in the connection's extra.

    For an operator of your own, see :class:`RayAgentJobLink`:

    .. code-block:: python

        from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, RayAgentLogsLink

        operator_extra_links = (RayAgentJobLink(), RayAgentLogsLink())
    """

    name = "Ray logs"
    field = "logs_url"


class RayAgentHistoryLink(_PageLink):
    """The task's job in the history of its cluster, from the URL template ``history_url`` in the connection's extra.

    For an operator of your own, see :class:`RayAgentJobLink`:

    .. code-block:: python

        from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, RayAgentHistoryLink

        operator_extra_links = (RayAgentJobLink(), RayAgentHistoryLink())
    """

    name = "Ray history"
    field = "history_url"


LINKS = (RayAgentJobLink(), RayAgentMetricsLink(), RayAgentLogsLink(), RayAgentHistoryLink())
XCOM_KEYS = {link.field: link.xcom_key for link in LINKS}
"""Where Airflow looks for the links, by the connection's field."""
_ANY_TRY: Any = None
"""No link here depends on the try."""


class JobLinkButtons:
    """The ``operator_extra_links`` of an operator; once it knows its job, only those with a URL.

    At the end of a run, Airflow pushes an XCom for each, even if the URL is empty (``finalize`` in
    ``airflow/sdk/execution_time/task_runner.py``).
    """

    def __get__(self, operator: Any, owner: object) -> Collection[BaseOperatorLink]:
        links = LINKS if operator is None else vars(operator).get("_link_buttons", LINKS)
        if getattr(operator, "job_links", None) is None:
            return tuple(links)
        return tuple(link for link in links if link.get_link(operator, ti_key=_ANY_TRY))

    def __set__(self, operator: Any, links: Collection[BaseOperatorLink]) -> None:
        vars(operator)["_link_buttons"] = links


def links_of(operator: Any, job_id: str | None = None) -> JobLinks:
    """Return the links for a job, with the details ``operator.job_details`` if there are any.

    A missing connection is not an error here: the task itself reports it.

    :param job_id: ``None``: that of the operator's argument.
    """
    try:
        config = operator.hook.config
    except (RayAgentError, AirflowException, AirflowRuntimeError):
        config = None
    return JobLinks(config, job_id or operator.job_id, getattr(operator, "job_details", None))


def push_links(ti: Any, urls: Mapping[str, str]) -> None:
    """Show links from now on.

    Airflow itself calls ``get_link`` only at the end of a run (``airflow/sdk/execution_time/task_runner.py``).

    :param ti: the running task instance.
    :param urls: URLs by the connection's field.
    """
    try:
        for field, url in urls.items():
            push_xcom(ti, XCOM_KEYS[field], url)
    except Exception:  # noqa: BLE001 - Airflow's or a backend's; Airflow itself pushes the links at the end
        log.debug("The links are not pushed.", exc_info=True)
