"""What a task log shows of a followed job: records of a level and a text. Pure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.agent import jobs
from airflow_provider_rayagent.logs.commands import Notice
from airflow_provider_rayagent.logs.present import neutralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_rayagent.agent.following import Item

RECORD_BYTES = 12_000
"""What a record of several lines holds at most; a longer line is a record of its own."""


class Record(NamedTuple):
    """One record of the task log.

    :param level: of :mod:`logging`.
    :param text: one line, or several lines joined by newlines.
    """

    level: int
    text: str


def records(items: Iterable[Item], job_id: str) -> Iterator[Record]:
    """Yield the records that tell ``items``, one for each line."""
    for item in items:
        if isinstance(item, str):
            yield Record(logging.INFO, neutralize(item))
        elif isinstance(item, Notice):
            yield Record(logging.WARNING if item.warning else logging.INFO, neutralize(item.text))
        else:
            yield Record(logging.INFO, neutralize(jobs.describe(item.details, job_id)))
            if jobs.known_status(item.details) is None and not jobs.has_ended(item.details):
                status = item.details["status"]
                yield Record(logging.WARNING, f"The status {status!r} is not one that Ray has; the job is watched on.")


def grouped(found: Iterable[Record], size: int = RECORD_BYTES) -> Iterator[Record]:
    """Join neighbours of one level into records of up to ``size`` bytes of UTF-8."""
    level = room = 0
    lines: list[str] = []
    for record in found:
        length = _length(record.text) + 1
        if lines and (record.level != level or length > room):
            yield Record(level, "\n".join(lines))
            lines = []
        if not lines:
            level, room = record.level, size
        lines.append(record.text)
        room -= length
    if lines:
        yield Record(level, "\n".join(lines))


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
