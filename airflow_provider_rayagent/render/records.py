"""Render the items of a followed job as records of the task log. Pure."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.render.printed_finder import PrintedFinder
from airflow_provider_rayagent.render.record_builder import DisplaySettings, Record, RecordBuilder
from airflow_provider_rayagent.services import jobs
from airflow_provider_rayagent.tail.items import Item, JobStatusChanged, LogLines, LogRewritten, Notice, Progress
from airflow_provider_rayagent.tail.lines import Piece, map_text
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.render.messages import Message
    from airflow_provider_rayagent.render.result import Markers
    from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition
    from airflow_provider_rayagent.text.redaction import Redactor

JOB_LOGGER = "airflow_provider_rayagent.job"
"""Logger of a job's lines in the task log; messages of this provider use the task's logger."""
MAX_PROBLEMS = 5
"""Number of invalid messages that are reported."""
LAST_LINES = 20
LAST_LINE_CHARS = 500


class JobRecords:
    """Render the items of one job as records, and find what its lines say to Airflow.

    :param settings: how to show the lines.
    :param markers: see :class:`.PrintedFinder`.
    :param messages: whether to look for messages. Progress then is a record now and then instead of the job's lines.
    :param shown: whether to show the job's lines at all.
    :param redact: redacts secrets in what the job and the agent say, where it is shown.
    :param credentials: the secrets of the connection; no others are redacted in results and messages, which are data.
    :param where: URL of the agent.
    :param position: from :meth:`position` of the predecessor, to continue where it stopped.
    :param names_entrypoint: whether the first status has the entrypoint.
    :param on_result: called when the lines contain a complete result.
    """

    def __init__(
        self,
        job_id: str,
        settings: DisplaySettings | None = None,
        *,
        markers: Sequence[Markers] = (),
        messages: bool = False,
        shown: bool = True,
        redact: Redactor = NO_SECRETS,
        credentials: Redactor = NO_SECRETS,
        where: str = "",
        position: LogPosition | None = None,
        names_entrypoint: bool = True,
        on_result: Callable[[], object] = lambda: None,
    ) -> None:
        self._job_id = job_id
        self._builder = RecordBuilder(settings, position)
        self._shows_markers = settings is not None and settings.markers
        self._shown = shown
        self._redact = redact
        self._where = where
        self._new_finder = partial(
            PrintedFinder, markers, messages=messages, redact=redact, credentials=credentials, on_result=on_result
        )
        self.printed = self._new_finder(state=position)
        """What the job has printed for Airflow so far."""
        self._problems = 0
        self._names_entrypoint = names_entrypoint
        self._is_first_status = position is None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def last_lines(self) -> list[str]:
        """The last lines of the job, each truncated to :data:`LAST_LINE_CHARS` characters."""
        return [sanitize(line) for line in self._last_lines]

    def render(self, items: Sequence[Item], now: float) -> list[Record]:
        """Return the records of ``items``, in order.

        Call it now and then even without items: it also returns records that have become due.

        :param now: seconds on a monotonic clock.
        """
        builder = self._builder
        last: deque[str] = deque(maxlen=LAST_LINES)
        for item in items:
            match item:
                case LogLines(lines):
                    self._add_lines(lines, last, now)
                case Progress(text):
                    # The line is not complete, and neither may be a secret at its end.
                    builder.add_progress(self._redact.redact_partial(text))
                case LogRewritten(text):
                    builder.add_notice(self._redact(text))
                    builder.log_was_rewritten()
                    # What was found so far belongs to a log that was replaced.
                    self.printed = self._new_finder()
                case Notice(text, level):
                    builder.add_notice(self._redact(text), level)
                case JobStatusChanged(details):
                    self._add_status(details, now)
        # Cut here and not in the loop: of any number of long lines, only the last 20 are kept.
        self._last_lines.extend(line[:LAST_LINE_CHARS] for line in last)
        return builder.take(now)

    @property
    def hides_lines(self) -> bool:
        """Whether the job has printed more lines than are shown."""
        return self._builder.hides_lines

    def flush(self) -> list[Record]:
        """Return the records of all lines held back; call it before another process goes on at :meth:`position`."""
        return self._builder.flush()

    def finish(self) -> list[Record]:
        """Return the last records. Call it once, when the job has ended or the task gives up."""
        return self._builder.finish()

    def position(self, cursor: Cursor) -> LogPosition:
        """Return the position from which a successor can continue, as JSON primitives; :class:`Cursor` reads it too."""
        return {**self._builder.position(cursor), **self.printed.state()}

    def _add_lines(self, lines: Sequence[str], last: deque[str], now: float) -> None:
        for text in lines:
            # As it was printed: a secret may be a word of the markers, or a part of a number.
            message = self.printed.feed(text)
            # The first pieces of a long line are shown before it is known to be a message.
            if message is not None and message.kind and not self._shows_markers and not isinstance(text, Piece):
                self._hide_message(message, now)
                continue
            # Before everything else, so that neither a record nor the last lines can contain a secret.
            line = map_text(text, self._redact)
            last.append(line)
            if self._shown:
                self._builder.add_line(line, now)
            if message is not None and message.problem:
                self._warn_of(message.problem, now)

    def _hide_message(self, message: Message, now: float) -> None:
        if self._shown:
            self._builder.hide_line()
            if message.kind == "progress":
                self._builder.add_reported_progress(sanitize(f"Progress: {self.printed.messages.progress}"), now)

    def _warn_of(self, problem: str, now: float) -> None:
        if self._problems < MAX_PROBLEMS:
            self._problems += 1
            text = sanitize(f"A message of the job has no effect: {problem}.", self._redact, length=MAX_NOTICE)
            self._builder.add_message(logging.WARNING, coded(Code.INVALID_MESSAGE, text), now)

    def _add_status(self, details: Mapping[str, Any], now: float) -> None:
        text = jobs.describe(
            details,
            self._job_id,
            self._where,
            redact=self._redact,
            is_first=self._is_first_status,
            names_entrypoint=self._names_entrypoint,
        )
        self._is_first_status = False
        self._builder.add_message(logging.INFO, text, now, is_last=jobs.has_ended(details))
        if jobs.known_status(details) is None and not jobs.has_ended(details):
            status = jobs.shown_status(details, self._redact)
            text = f"Unknown job status '{status}'; the job is still being monitored."
            self._builder.add_message(logging.WARNING, coded(Code.UNKNOWN_STATUS, text), now)
