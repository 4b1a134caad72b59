"""Join records that a job prints too fast for the task log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.text.bounds import utf8_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_rayagent.render.record_builder import Record

# Many lines in one record cost a triggerer much less than many records; one of 1 MB blocks its event loop for a second.
RECORD_BYTES = 12_000
"""Size limit of a record of several lines; a longer line is a record of its own."""
MAX_SINGLE_RECORDS_PER_SECOND = 500
"""Records beyond this number within one second are joined: writing 6,000 records a second saturates a worker."""


def grouped(found: Iterable[Record], size: int = RECORD_BYTES) -> Iterator[Record]:
    """Join adjacent records of the same level and source into records of up to ``size`` bytes of UTF-8."""
    first: Record | None = None
    lines: list[str] = []
    room = 0
    for record in found:
        length = utf8_length(record.text) + 1
        if first is not None and (record.level != first.level or record.from_job != first.from_job or length > room):
            yield first._replace(text="\n".join(lines))
            first = None
        if first is None:
            first, lines, room = record, [], size
        lines.append(record.text)
        room -= length
    if first is not None:
        yield first._replace(text="\n".join(lines))


class Joiner:
    """Join records that come too fast: those beyond the first 500 within one second."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._records = 0

    def joined(self, found: Sequence[Record], now: float) -> Iterable[Record]:
        """Return the records, joined if there are too many.

        :param now: seconds on a monotonic clock.
        """
        if now - self._since >= 1.0:
            self._since, self._records = now, 0
        self._records += len(found)
        return found if self._records <= MAX_SINGLE_RECORDS_PER_SECOND else grouped(found)
