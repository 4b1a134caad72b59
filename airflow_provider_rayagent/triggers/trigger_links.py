"""The links from a deferred task to the pages about its job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.links.job_links import JobLinks
from airflow_provider_rayagent.links.rayagent import XCOM_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.task_instance.xcoms import TriggerXComs

log = logging.getLogger(__name__)


class TriggerLinks:
    """Push the links that need details of the job which the worker did not have yet, such as its node."""

    def __init__(self, xcoms: TriggerXComs, config: AgentConfig, job_id: str) -> None:
        self._xcoms = xcoms
        self._links = JobLinks(config, job_id)

    async def update(self, job: Mapping[str, Any] | None) -> None:
        """Push the links that the details of the job have changed."""
        if job is None or not self._xcoms.is_due:
            return
        try:
            for field, url in self._links.update(job).items():
                await self._xcoms.set(XCOM_KEYS[field], url)
        except Exception:  # noqa: BLE001 - no error here may end the task, whose worker pushes the links at the end
            log.debug("The links are not pushed.", exc_info=True)
