"""A log that several triggers read, one after the other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as some

from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition, as_position
from airflow_provider_rayagent.tail.text_reader import TextReader
from tests.unit.support import items_of

if TYPE_CHECKING:
    from airflow_provider_rayagent.render.printed_finder import PrintedFinder


def printed_in(text: str, size: int, data: Any, **options: Any) -> PrintedFinder:
    """Return what the last trigger has found in a log; each one goes on at the position of the one before it.

    :param size: characters of the longest line that is not split.
    :param data: draws where triggers end, also within a line.
    :param options: arguments of :class:`JobRecords`.
    """
    position: LogPosition | None = None
    records, read = JobRecords("j1", **options), 0
    while read < len(text):
        records = JobRecords("j1", DisplaySettings(max_lines=3), position=position, **options)
        cursor = Cursor.from_json(position) if position else Cursor()
        reading = TextReader(cursor, size)
        read = data.draw(some.integers(read + 1, len(text)))
        records.render(items_of(*reading.feed_text(text[:read])), 0.0)
        if read == len(text):
            records.render(items_of(*reading.flush()), 0.0)
        position = json.loads(json.dumps(records.position(cursor)))
        assert as_position(position) == position
    return records.printed
