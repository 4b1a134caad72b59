"""The URLs of the pages about a task's job, as its details become known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.jobs import has_ended

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import ServiceConfig


class JobLinks:
    """The URLs of the pages about one job.

    :param config: the configuration of the connection; ``None``: it cannot be read, so there are no links.
    :param job: the details of the job, if they are known.
    """

    def __init__(self, config: ServiceConfig | None, job_id: str, job: Mapping[str, Any] | None = None) -> None:
        self._config = config
        self._job_id = job_id
        self._made_at = time.time()
        self._job = job
        self._has_asked = False
        self.known = self._urls(start=None)
        """URLs by the connection's field: those of the last :meth:`update`; at first, those that need no details."""

    def update(self, job: Mapping[str, Any] | None) -> dict[str, str]:
        """Return the URLs that differ from the known ones, none once the job has ended: Airflow asks for those.

        :param job: the details of the job as last received; ``None``: none were received.
        """
        job = job or self._job
        if job is self._job and self._has_asked:
            return {}
        self._job, self._has_asked = job, True
        before, self.known = self.known, self._urls(start=self._made_at)
        if self._job is not None and has_ended(self._job):
            return {}
        return {field: url for field, url in self.known.items() if before.get(field) != url}

    def _urls(self, *, start: float | None) -> dict[str, str]:
        return {} if self._config is None else self._config.page_urls(self._job_id, self._job, start=start)
