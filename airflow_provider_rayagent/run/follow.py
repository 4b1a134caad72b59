"""Follow a job and write its records: the one loop of workers, triggers, the command line and the Ray page."""

from __future__ import annotations

import sys
import time
from contextlib import aclosing, closing, nullcontext
from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import in_portions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.render.records import JobRecords
    from airflow_provider_rayagent.run.job_watch import JobWatch
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.tail_driver import Follower


class Sink:
    """Receives the records of a job. In a worker, its coroutines never suspend."""

    portion = sys.maxsize
    """Number of lines that are rendered at a time, without a pause for others in the same event loop."""

    async def take(self, follower: Follower, items: Sequence[Item]) -> Sequence[Item]:  # noqa: ARG002
        """Return those of new items that are rendered."""
        return items

    async def write(self, records: Sequence[Record]) -> None:
        """Write records."""
        raise NotImplementedError

    async def wrote(self, follower: Follower, records: JobRecords, items: Sequence[Item]) -> bool:  # noqa: ARG002
        """Note that the records of items are written. Return whether to go on.

        Called now and then without items, too.
        """
        return True


async def follow(follower: Follower, records: JobRecords, sink: Sink, watch: JobWatch | None = None) -> None:
    """Write the records of a job to a sink until the following ends, or until the sink ends it.

    :param watch: tells why the job waits, or what runs of it; it can end the following. ``None``: nobody does.
    """
    # Closing the iterator closes its connections.
    with nullcontext() if watch is None else closing(watch):
        async with aclosing(follower.items()) as found:
            async for items in found:
                for portion in in_portions(await sink.take(follower, items), sink.portion):
                    await sink.write(records.render(portion, time.monotonic()))
                if watch is not None and follower.end is None and (told := watch.records(follower)):
                    await sink.write(told)
                if not await sink.wrote(follower, records, items):
                    return
    # A process that goes on after a single check does not see what is held back.
    await sink.write(records.flush() if follower.end is End.CHECKED_ONCE else records.finish())
