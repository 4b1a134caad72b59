"""What a trigger does with the records of its job: the task log, the position, the links."""

from __future__ import annotations

import asyncio
import logging
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import structlog

from airflow_provider_rayagent.connection.job_links import JobLinks
from airflow_provider_rayagent.links.rayagent import XCOM_KEYS
from airflow_provider_rayagent.position.gaps import MISSING_LINES
from airflow_provider_rayagent.render.joined_records import grouped
from airflow_provider_rayagent.render.records import JOB_LOGGER
from airflow_provider_rayagent.run.follow import Sink
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel
from airflow_provider_rayagent.text.codes import Code, coded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.metrics.job_metrics import JobMetrics
    from airflow_provider_rayagent.position.trigger_position import PositionStore
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.render.records import JobRecords
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.task_instance.supervisor_channel import StallClock
    from airflow_provider_rayagent.task_instance.xcoms import TriggerXComs
    from airflow_provider_rayagent.transport.tail_driver import Follower

log = logging.getLogger(__name__)

BATCH_SIZE = 500
"""Lines rendered without yielding to the event loop, which takes some milliseconds; fewer, if they are long."""
MAX_SINGLE_RECORDS = 20
"""More records at once are joined into larger ones, which cost Airflow a tenth."""
REPLACED_PAUSE_SECONDS = 120.0
"""Time that a replaced trigger waits for its triggerer to cancel it, before it checks again."""


class TriggerSink(Sink):
    """Writes the records of a trigger's job to the task log, unless another trigger has taken over."""

    portion = BATCH_SIZE

    def __init__(
        self,
        log: Any,
        job_id: str,
        cursor: Cursor,
        *,
        store: PositionStore,
        clock: StallClock,
        metrics: JobMetrics,
        links: TriggerLinks,
    ) -> None:
        self._log = log
        self._job_id = job_id
        self._task_log = TriggerLog(log)
        self._cursor = cursor
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._links = links

    async def take(self, follower: Follower, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items, after reporting gaps that cannot be filled any more."""
        # The tail makes a new cursor when the text differs from what was forwarded.
        if follower.cursor is not self._cursor:
            self._cursor = follower.cursor
            for gap in self._store.log_was_rewritten():
                self._log.warning(MISSING_LINES, self._job_id, gap, "the job's log has been rewritten")
        return items

    async def write(self, records: Sequence[Record]) -> None:
        """Write records; a replaced trigger must not write what its successor writes."""
        await self._pause_if_replaced()
        await self._task_log.write(records)
        # Progress, and lines that are not shown, may be no record, so that nothing was written.
        await asyncio.sleep(0)

    async def wrote(self, follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:
        """Note that records are written."""
        self._metrics.forwarded(follower, items)
        # After the lines are written: a position that is ahead of the log file would lose lines.
        if items:
            self._store.update(records.position(follower.cursor))
        await self._links.update(follower.job)
        return True

    async def _pause_if_replaced(self) -> None:
        """Wait to be cancelled if this triggerer stalled and another one has taken over the job meanwhile."""
        clock = self._clock
        clock()
        # Again, if there was another stall during the request.
        while clock.stalled:
            stalls = clock.stalls
            if await is_replaced(clock, self._store):
                text = coded(Code.TAKEN_OVER, "Another triggerer has taken over job %s; this one pauses.")
                self._log.info(text, self._job_id)
                await asyncio.sleep(REPLACED_PAUSE_SECONDS)
                # The pause is no stall, but counts as one if no other trigger has used the clock meanwhile.
                clock()
                stalls = clock.stalls
            clock.handled = stalls


async def is_replaced(clock: StallClock, store: PositionStore) -> bool:
    """Return whether this triggerer has stalled, and another trigger has taken over meanwhile."""
    clock()
    return clock.stalled and not await store.is_current_owner()


class TriggerLog:
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


class TriggerLinks:
    """Push the links that need details of the job which the worker did not have yet, such as its node."""

    def __init__(self, xcoms: TriggerXComs, config: ServiceConfig, job_id: str) -> None:
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
