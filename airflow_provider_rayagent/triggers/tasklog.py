"""Write a trigger's records to the task log."""

from __future__ import annotations

import asyncio
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import structlog

from airflow_provider_rayagent.render.records import JOB_LOGGER, grouped
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_rayagent.render.record_builder import Record

MAX_SINGLE_RECORDS = 20
"""More records at once are joined into larger ones, which cost Airflow a tenth."""


class TaskLog:
    """The task log of one trigger.

    :param log: the trigger's logger, for records that are not lines of the job.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._job_log = structlog.get_logger(JOB_LOGGER)
        self._channel = Channel.of_loop()

    async def write(self, found: Iterable[Record]) -> None:
        """Write records: one by one, or joined into larger ones under load."""
        records = iter(found)
        # One more than the limit shows whether it is exceeded; the rest is rendered as it is written.
        first = list(islice(records, MAX_SINGLE_RECORDS + 1))
        under_load = len(first) > MAX_SINGLE_RECORDS or (len(first) > 1 and self._channel.is_busy)
        for record in grouped(chain(first, records)) if under_load else first:
            async with self._channel.write_slot():
                # An argument, since a line of the job may contain percent signs.
                (self._job_log if record.from_job else self._log).log(record.level, "%s", record.text)
            # A free lock is acquired without suspending, so many records would block all other triggers.
            await asyncio.sleep(0)
