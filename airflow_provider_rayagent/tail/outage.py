"""Report that a job's status cannot be read for some time: once, and that it can be read again. Pure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.items import Notice
from airflow_provider_rayagent.text.codes import coded
from airflow_provider_rayagent.text.sentences import sentence
from airflow_provider_rayagent.text.times import shown_clock

if TYPE_CHECKING:
    from airflow_provider_rayagent.text.codes import Code

OUTAGE_SECONDS = 10.0
"""How long the status is unreadable before that is reported: most restarts of a proxy take less."""


class Outage:
    """The time for which requests for the status of one job have failed."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._since: float | None = None
        self._is_reported = False

    def failed(
        self, sent_at: float, now: float, code: Code, detail: str, *, until: float | None, time: float
    ) -> list[Notice]:
        """Process a failed request; return what there is to report.

        :param sent_at: when it was sent, on the driver's clock.
        :param now: on the driver's clock.
        :param detail: why it failed, safe to show.
        :param until: when the last request will be sent, on the driver's clock; ``None``: this was the last one.
        :param time: ``now`` in seconds since the epoch.
        """
        self._since = sent_at if self._since is None else self._since
        if self._is_reported or until is None or now - self._since < OUTAGE_SECONDS:
            return []
        self._is_reported = True
        last = shown_clock(1000 * (time + until - now))
        why = f"The status of job {self._job_id} cannot be read: {sentence(detail)}"
        return [Notice(coded(code, f"{why} The job is not affected; trying until {last}."))]

    def ended(self) -> list[Notice]:
        """Process an answer of the service; return what there is to report."""
        was_reported, self._since, self._is_reported = self._is_reported, None, False
        return [Notice(f"The status of job {self._job_id} can be read again.", logging.INFO)] if was_reported else []
