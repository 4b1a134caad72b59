"""The whole log of a tail: for what purpose it is read, and when next."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.backoff import Backoff, interval_between_reads, pause_between_reads
from airflow_provider_rayagent.tail.last_lines import LastLines, LastLinesPolicy
from airflow_provider_rayagent.tail.live_stream import ConnectionState
from airflow_provider_rayagent.tail.stream_reader import LogExcerpt

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor, Replay
    from airflow_provider_rayagent.tail.text_reader import TextReader

MAX_PAUSE_SECONDS = 15.0
COMPARE_SECONDS = 1.0
"""Interval between two comparisons of a stream with the whole log."""
# Messages of the stream are held back for so many failures, and then read without a comparison.
MAX_COMPARE_FAILURES = 10
ROTATED_SECONDS = 10.0
"""How long the log may be shorter than what was forwarded: its text may come late from some agents."""
REWRITTEN_SECONDS = 1.0
MAX_REWRITTEN_SECONDS = 3600.0
"""Limits of the pause after the log was rewritten while the job runs. It doubles each time, since a log whose beginning
moves, as that of the latest lines only, is another one at every reading."""


class AllText:
    """All of the log is read, to forward what is new."""


Purpose: TypeAlias = AllText | LastLines | LogExcerpt
"""What the whole log is read for: to forward what is new, in all of it or in its last lines only; or to compare an
excerpt with a stream, which forwards nothing."""


class WholeLogState:
    """The whole log: for what purpose it is read, and when next.

    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, settings: TailSettings, jitter: Callable[[], float]) -> None:
        self._can_read_last_lines = settings.last_lines
        self._interval = settings.log_interval or interval_between_reads(settings.poll_interval)
        self._policy = LastLinesPolicy(self._interval)
        self._replay: Replay | None = None
        self._backoff = Backoff(0.5, MAX_PAUSE_SECONDS, jitter)
        self._rewritten = Backoff(REWRITTEN_SECONDS, MAX_REWRITTEN_SECONDS, jitter)
        self._compare_failures = 0
        self.state = ConnectionState.CLOSED
        self.purpose: Purpose = AllText()
        """Of the open response, or of the last one."""
        self.reader: TextReader | None = None
        """Reads what is to be forwarded."""
        self.requested_at = 0.0
        """When the open or last response was requested; the service may take its text at any time after that."""
        self.compare_due = 0.0
        """When the next comparison is due."""
        self._short_since: float | None = None
        self._chars = 0
        self.has_grown = False
        """Whether the last reading found a longer log than the one before."""
        self.was_tried = False
        """Whether a read of the log has succeeded or failed."""

    @property
    def due(self) -> float:
        """When the next read is due."""
        return max(self._backoff.due, self._rewritten.due)

    @property
    def failures(self) -> int:
        """Consecutive failures."""
        return self._backoff.failures

    def open(self, now: float, cursor: Cursor | None = None) -> commands.OpenWholeLog:
        """Return the command to open the log, to forward what is new.

        :param cursor: the position, if the lines after it are enough.
        """
        self.requested_at = now
        self.purpose, self._replay = AllText(), None
        found = self._policy.next(now, cursor) if cursor is not None and self._can_read_last_lines else None
        if found is None:
            return commands.OpenWholeLog()
        self._replay, lines = found
        self.purpose = LastLines(self._replay)
        return commands.OpenWholeLog(lines)

    def open_to_compare(self, now: float, excerpt: LogExcerpt) -> commands.OpenWholeLog:
        """Return the command to open the log, to compare a part of it."""
        self.requested_at = now
        self.purpose = excerpt
        return commands.OpenWholeLog()

    def opened(self, new_reader: Callable[[Replay | None], TextReader]) -> None:
        """Note that the response with the log has started.

        :param new_reader: returns a reader of the log, which is needed unless it is read to be compared.
        """
        self.state = ConnectionState.OPEN
        if not isinstance(self.purpose, LogExcerpt):
            self.reader = new_reader(self._replay)

    def position_not_found(self, now: float) -> None:
        """Note that the position is not in the last lines, or not for certain: read the whole log at once."""
        self.reader = None
        self._policy.failed()
        self._backoff.reset(now)

    def request_close(self) -> None:
        """Make the driver close the response, if one is open."""
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.CLOSING

    def closed(self) -> None:
        """Note that the driver has closed the response, or that it has ended."""
        self.state = ConnectionState.CLOSED

    def finished_reading(self, now: float, reader: TextReader, cursor: Cursor, *, job_has_ended: bool) -> None:
        """Note that the log was read to its end and forwarded, up to the cursor."""
        self._policy.read(now, reader.replay, cursor, was_whole=isinstance(self.purpose, AllText))
        self.was_tried = True
        self.has_grown, self._chars = reader.chars > self._chars, reader.chars
        self._compare_failures = 0
        pause = 0.0
        if not job_has_ended:
            # How long it took to read all does not matter if the last lines are next.
            is_short = self._can_read_last_lines and self._policy.next(now, cursor) is not None
            pause = self._interval if is_short else pause_between_reads(self._interval, now - self.requested_at)
        self._backoff.reset(now + pause)

    def was_rotated(self, reader: TextReader, cursor: Cursor, *, delimited: bool) -> bool:
        """Whether the log that was read is another one than was forwarded, though it is too short for a digest.

        Ray's logs only grow, so one that is copied and truncated, as logrotate does, is found by its length.

        :param delimited: whether the response was not cut.
        """
        # A newline that was added to the last message of a stream may be missing in the log.
        is_short = delimited and reader.has_text and not reader.recognized and reader.chars < cursor.chars - 1
        if not is_short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = self.requested_at
        return self._short_since is not None and self.requested_at - self._short_since >= ROTATED_SECONDS

    def schedule_read(self, moment: float) -> None:
        """Schedule the next read."""
        self._backoff.reset(moment)

    def failed(self, now: float) -> None:
        """Note that the log could not be read to forward it."""
        self.reader = None
        self.was_tried = True
        self._backoff.record_failure(now)

    def rewritten(self, now: float, *, job_has_ended: bool) -> None:
        """Note that the log was replaced by another one, which is read from its start after a pause."""
        self.reader = self._short_since = None
        self._backoff.record_failure(now)
        if not job_has_ended:
            self._rewritten.record_failure(now)

    def compared(self, now: float, *, available: bool) -> None:
        """Note that a comparison is finished.

        :param available: whether the log could be read.
        """
        self.compare_due = now + COMPARE_SECONDS
        if available:
            self._compare_failures = 0

    def compare_failed(self, now: float, *, transient: bool) -> bool:
        """Note that the log could not be read to compare it. Return whether to give up the comparison."""
        self.compare_due = now + COMPARE_SECONDS
        # Two rejections are enough, since the log is most likely rejected again.
        self._compare_failures += 1 if transient else MAX_COMPARE_FAILURES // 2
        return self._compare_failures >= MAX_COMPARE_FAILURES

    def status_changed(self, due: float) -> None:
        """Note that the job's status has changed: a log that could not be read may be available, from ``due`` on."""
        self._backoff.reset(due)
        self._rewritten.expedite(due)

    def service_recovered(self, now: float) -> None:
        """Note that the service responds again."""
        self._backoff.expedite(now)
