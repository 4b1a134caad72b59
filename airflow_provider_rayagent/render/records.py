"""What a task log shows of a followed job: records of a level and a text. Pure."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.render.presenter import Presenter, PresentSettings, Record
from airflow_provider_rayagent.render.result import ResultFinder
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.items import Item, JobSeen, LogLines, LogRewritten, Notice, Progress
from airflow_provider_rayagent.tail.lines import changed
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.text.showable import showable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_provider_rayagent.text.redaction import Redactor

JOB_LOGGER = "airflow_provider_rayagent.job"
"""The logger of a job's own lines in a task log, by which they can be told from ours."""
RECORD_BYTES = 12_000
"""What a record of several lines holds at most; a longer line is a record of its own."""
QUIET_RECORDS_A_SECOND = 500
"""What comes beyond in the same second is joined; a worker that writes 6,000 records a second does nothing else."""
LAST_LINES = 20
LAST_LINE_CHARS = 500


class JobRecords:
    """Turn what there is to tell of one job into records, and find its result among its lines.

    :param settings: how the lines look.
    :param markers: between which the result stands; ``None``: no result is looked for.
    :param shown: whether the job's lines are shown at all.
    :param redact: takes secrets out of what the job and the agent say.
    :param where: the agent's address.
    :param position: what :meth:`position` gave the one that is taken over from.
    """

    def __init__(
        self,
        job_id: str,
        settings: PresentSettings | None = None,
        *,
        markers: tuple[str, str] | None = None,
        shown: bool = True,
        redact: Redactor = NO_SECRETS,
        where: str = "",
        position: Mapping[str, Any] | None = None,
    ) -> None:
        self._job_id = job_id
        self._presenter = Presenter(settings, position)
        self._shown = shown
        self._redact = redact
        self._where = where
        self._markers = markers
        self._result_state = (position or {}).get("result")
        self.result = ResultFinder(markers, self._result_state) if markers else None
        """The result, as far as it was found."""
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def last_lines(self) -> list[str]:
        """The last lines of the job, each cut to its first :data:`LAST_LINE_CHARS` characters."""
        return [showable(line) for line in self._last_lines]

    def of(self, items: Sequence[Item], now: float) -> list[Record]:
        """Return the records of ``items``, in order.

        :param now: seconds on a monotonic clock; ask now and then with no items too, for what is due by itself.
        """
        presenter = self._presenter
        last: deque[str] = deque(maxlen=LAST_LINES)
        for item in items:
            match item:
                case LogLines(lines):
                    for text in lines:
                        line = changed(text, self._redact)
                        last.append(line)
                        if self.result is not None:
                            self.result.feed(line)
                        if self._shown:
                            presenter.line(line, now)
                case Progress(text):
                    presenter.progress(self._redact.unfinished(text))
                case LogRewritten(text):
                    presenter.notice(self._redact(text))
                    presenter.log_was_rewritten()
                    self._forget_result()
                case Notice(text):
                    presenter.notice(self._redact(text))
                case JobSeen(details):
                    self._job(details, now)
        self._last_lines.extend(line[:LAST_LINE_CHARS] for line in last)
        return presenter.take(now)

    def finish(self) -> list[Record]:
        """Return the records for what was held back: at the job's end, or when the task gives up."""
        return self._presenter.finish()

    def position(self, cursor: Cursor) -> dict[str, Any]:
        """Return what another one needs to go on from here, as JSON primitives; :class:`Cursor` can read it too."""
        position = self._presenter.position(cursor)
        if self.result is not None:
            # Lines that were held back are read again by the next one, for the result too.
            if position["chars"] == cursor.chars:
                self._result_state = self.result.state()
            position["result"] = self._result_state
        return position

    def _forget_result(self) -> None:
        """Look for the result anew: what was found is of a log that is no longer there."""
        if self._markers is not None:
            self.result = ResultFinder(self._markers)
            self._result_state = None

    def _job(self, details: Mapping[str, Any], now: float) -> None:
        text = jobs.describe(details, self._job_id, self._where, redact=self._redact)
        self._presenter.of_ours(logging.INFO, text, now)
        if jobs.known_status(details) is None and not jobs.has_ended(details):
            status = jobs.shown_status(details, self._redact)
            text = f"The status '{status}' is not one that Ray has; the job is watched on."
            self._presenter.of_ours(logging.WARNING, text, now)


def as_position(value: object) -> dict[str, Any] | None:
    """Return a value if it is what :meth:`JobRecords.position` gives, else ``None``."""
    if not isinstance(value, dict):
        return None
    try:
        Cursor.from_json(value)
    except ValueError:
        return None
    return value


def grouped(found: Iterable[Record], size: int = RECORD_BYTES) -> Iterator[Record]:
    """Join neighbors of one level into records of up to ``size`` bytes of UTF-8; ours and the job's stay apart."""
    first: Record | None = None
    lines: list[str] = []
    room = 0
    for record in found:
        length = _length(record.text) + 1
        if first is not None and (record.level != first.level or record.of_job != first.of_job or length > room):
            yield first._replace(text="\n".join(lines))
            first = None
        if first is None:
            first, lines, room = record, [], size
        lines.append(record.text)
        room -= length
    if first is not None:
        yield first._replace(text="\n".join(lines))


class Joiner:
    """Join what comes so fast that it would keep a worker busy: what goes beyond 500 records within one second."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._records = 0

    def joined(self, found: Sequence[Record], now: float) -> Iterable[Record]:
        """Return records as they are, or joined.

        :param now: seconds on a monotonic clock.
        """
        if now - self._since >= 1.0:
            self._since, self._records = now, 0
        self._records += len(found)
        return found if self._records <= QUIET_RECORDS_A_SECOND else grouped(found)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
