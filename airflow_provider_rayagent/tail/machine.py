"""The log tail of one job, as a state machine without I/O, clock or threads.

The blocking and the asyncio driver share it: they get a command from :meth:`Tail.next`, execute it, and report the
outcome with the method that the command names. :meth:`Tail.take` returns the items to forward.

The package's own documentation says how it works. Its states and their transitions are in :mod:`phase`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.tail import commands, draining
from airflow_provider_rayagent.tail.commands import Command, TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.early_checks import AFTER_READING_SECONDS
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.last_lines import LastLines
from airflow_provider_rayagent.tail.live_stream import ConnectionState, LiveStream
from airflow_provider_rayagent.tail.output import Output
from airflow_provider_rayagent.tail.phase import Completeness, Phase
from airflow_provider_rayagent.tail.status import StatusPolling
from airflow_provider_rayagent.tail.stream_reader import LogExcerpt, StreamReader
from airflow_provider_rayagent.tail.suspects import SuspectStreams, Suspicion
from airflow_provider_rayagent.tail.text_reader import TextReader
from airflow_provider_rayagent.tail.whole_log import AllText, WholeLogState
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.text.redaction import Redactor

ReaderT = TypeVar("ReaderT", bound=TextReader)


class Tail:
    """Follows one job to its end.

    :param cursor: the position at which to resume.
    :param deadline: when to give up, on the driver's clock; the log of a job that has ended by then is read for a
        minute more.
    :param jitter: returns a number in [0, 1).
    :param redact: the secrets that must not be split between two pieces of a line; they are not redacted here.
    """

    def __init__(
        self,
        settings: TailSettings | None = None,
        cursor: Cursor | None = None,
        *,
        deadline: float | None = None,
        jitter: Callable[[], float] = random.random,
        redact: Redactor = NO_SECRETS,
    ) -> None:
        self._settings = settings or TailSettings()
        self.cursor = cursor or Cursor()
        self._redact = redact
        self._phase = Phase.FOLLOWING
        self._end: End | None = None
        self.status = StatusPolling(self._settings, deadline, jitter)
        """To which the driver reports that the job is unknown, or that its status could not be read."""
        self.stream = LiveStream(self._settings, jitter)
        self._log = WholeLogState(self._settings, jitter)
        self._suspects = SuspectStreams()
        self._drain_attempts = draining.DrainAttempts()
        self._completeness = Completeness.PENDING if self._settings.forward else Completeness.COMPLETE
        self._output = Output(self._settings.progress_interval)

    @property
    def log_is_whole(self) -> bool:
        """Whether the job has ended and its log was read to its end."""
        return self._completeness is Completeness.COMPLETE

    @property
    def text_at(self) -> float:
        """When text was last received that was not received before, on the driver's clock; 0: never."""
        return self._output.text_at

    def renew_stream(self, now: float) -> None:
        """Replace an open stream."""
        if self.stream.state is ConnectionState.OPEN:
            self._finish_stream(now)

    def take(self) -> list[Item]:
        """Return and remove the items to forward, in order."""
        return self._output.take()

    def next(self, now: float) -> Command:
        """Return the next command. ``now`` is a monotonic clock in seconds."""
        self._output.add_progress(now, self.stream.reader, self._log.reader)
        # The driver does not report that it has closed something, so that it counts as closed from here on.
        if self._log.state is ConnectionState.CLOSING:
            self._log.closed()
            return commands.CloseWholeLog()
        if self.stream.state is ConnectionState.CLOSING:
            self.stream.closed()
            return commands.CloseStream()
        # Before any reading: a source that always has more would otherwise keep the status from being polled.
        if self.status.is_due(now):
            return commands.GetStatus()
        self._update_phase(now)
        if self._phase is Phase.CLOSING:
            return self._close(now)
        # To its end, before the stream is read again: only one of the two may advance the cursor.
        if self._log.state is ConnectionState.OPEN:
            return commands.ReadWholeLog()
        return self._follow(now) if self._phase is Phase.FOLLOWING else self._drain(now)

    # States

    def _update_phase(self, now: float) -> None:
        if self.status.give_up_reason is not None:
            self._phase, self._end = Phase.CLOSING, self.status.give_up_reason
        elif self.status.ended_at is not None:
            if now >= self.status.log_is_read_until:
                self._lose_end()
            is_pending = self._completeness is Completeness.PENDING
            self._phase, self._end = (Phase.DRAINING, None) if is_pending else (Phase.CLOSING, End.JOB_ENDED)
        elif self._settings.once and self.status.status and (self._log.was_tried or not self._settings.forward):
            self._phase, self._end = Phase.CLOSING, End.CHECKED_ONCE

    def _follow(self, now: float) -> Command:
        """Keep a stream open; poll the whole log while there is none."""
        if self.stream.state is ConnectionState.OPEN:
            if now < self.stream.timeout_at:
                return self._compare_or_read(now, min(self.status.next_due(), self.stream.timeout_at))
            self.stream.extend_silence_timeout()
            self._finish_stream(now)
            return self.next(now)
        # The job's details have its secrets, which no line may show: no log is opened before them.
        if not self._settings.forward or self.status.status is None:
            return self._wait(now, self.status.next_due())
        due = self._log.due
        for source in () if self._settings.once else self._usable_sources():
            if now >= self.stream.due(source):
                return self.stream.open(source)
            due = min(due, self.stream.due(source))
        return self._log.open(now, self.cursor) if now >= self._log.due else self._wait(now, due)

    def _drain(self, now: float) -> Command:
        """Read the whole log until it contains nothing new; if that fails, try a stream for its end."""
        usable = self._usable_sources()
        if self._drain_attempts.is_log_next(usable):
            # Never the last lines only: the digests of all that was forwarded tell whether the log was rewritten.
            return self._log.open(now) if now >= self._log.due else self._wait(now, self._log.due)
        if self.stream.state is ConnectionState.OPEN:
            until = max(self.stream.last_text_at, self.status.ended_at or now) + draining.STREAM_SECONDS
            if now < until:
                return self._compare_or_read(now, until)
            self._finish_stream(now)
            return self.next(now)
        if self._drain_attempts.is_out_of_streams or not usable:
            self._lose_end()
            return self.next(now)
        source = min(usable, key=self.stream.due)
        due = self.stream.due(source)
        return self.stream.open(source) if now >= due else self._wait(now, due)

    def _lose_end(self) -> None:
        if self._completeness is Completeness.PENDING:
            self._output.log_end_lost()
            self._completeness = Completeness.INCOMPLETE

    def _close(self, now: float) -> Command:
        if ConnectionState.OPEN in (self._log.state, self.stream.state):
            self._log.request_close()
            self.stream.request_close()
            return self.next(now)
        return commands.Finish(self._end or End.JOB_ENDED)

    def _compare_or_read(self, now: float, until: float) -> Command:
        reader = self.stream.reader
        if reader is not None and reader.needs_comparison:
            if now >= self._log.compare_due:
                return self._log.open_to_compare(now, reader.next_excerpt())
            until = min(until, self._log.compare_due)
            if reader.is_full:
                return commands.Wait(max(until - now, 0.0))
        return commands.ReadStream(max(until - now, 0.0))

    def _wait(self, now: float, until: float) -> Command:
        if self._phase is Phase.FOLLOWING:
            until = min(until, self.status.next_due())
        return commands.Wait(max(until - now, 0.0))

    # Reports from the driver: status

    def status_received(self, now: float, status: str, *, terminal: bool, ended_ago: float = 0.0) -> None:
        """Process the job's status; ``ended_ago``: how many seconds ago the job ended, at least."""
        recovered = self.status.is_failing
        if self.status.received(now, status, terminal=terminal, ended_ago=ended_ago):
            self.stream.status_changed(now)
            self._log.status_changed(
                draining.first_read_at(now, self.status.log_settles_at, self.cursor.chars) if terminal else now
            )
        elif recovered:
            self.stream.service_recovered(now)
            self._log.service_recovered(now)

    # Reports from the driver: stream

    def stream_opened(self, now: float) -> None:
        """Start reading the stream."""
        self.stream.opened(now, self._new_reader(StreamReader))
        self._suspects.new_stream()

    def stream_failed(self, now: float) -> None:
        """Process a failure to open the stream."""
        self.stream.failed(now)
        if self.status.ended_at is not None:
            self._drain_attempts.stream_tried(was_open=False)

    def stream_received(self, now: float, events: Sequence[Event]) -> None:
        """Process messages of the stream."""
        reader = self.stream.reader
        if reader is None:
            return
        batch = self._suspects.sort(events)
        for error in batch.errors:
            self._output.add_agent_error(error)
        if batch.is_complete:
            self.stream.completed_at = now
        self.stream.peer_active(now, with_text=batch.has_text)
        if batch.has_text:
            self.status.text_received(now)
        self._read_stream(now, lambda: reader.feed(batch.messages))
        # Last, since the messages before the unclear one are parts of the log.
        if batch.is_unclear:
            self._suspect(now, "unclear")
        self._end_stream_if_complete(now, reader)

    def stream_idle(self, now: float, *, alive: bool = False) -> None:
        """Note that no message arrived in time; ``alive`` if the peer showed other signs of life."""
        if alive:
            self.stream.peer_active(now)

    def stream_ended(self, now: float, *, too_long: bool = False) -> None:
        """Process the end of the stream, which the driver has closed.

        :param too_long: whether it ended because a message was too long to hold in memory.
        """
        if self.stream.state is not ConnectionState.CLOSED:
            if too_long:
                self._suspect(now, "too long")
            self._finish_stream(now)
            self.stream.closed()

    # Reports from the driver: whole log

    def whole_log_opened(self, now: float) -> None:  # noqa: ARG002 - like the other reports
        """Start reading the response with the whole log."""
        self._log.opened(lambda replay: self._new_reader(TextReader, replay=replay))

    def whole_log_received(self, now: float, text: str) -> None:
        """Process a chunk of the whole log."""
        match self._log.purpose:
            case LogExcerpt() as excerpt:
                if excerpt.feed(text):
                    self._log.request_close()
                    self._compared(now, excerpt.text)
            case LastLines() as last_lines:
                if not last_lines.feed(text):
                    self._log.request_close()
                    self._log.position_not_found(now)
            case AllText():
                self._read_log(now, text)

    def _read_log(self, now: float, text: str) -> None:
        reader = self._log.reader
        if reader is None:
            return
        try:
            self._output.add_lines(reader.feed_text(text))
        except ForeignTextError:
            self._log.request_close()
            self._handle_rewritten_log(now)
            return
        self._output.log_read(now, reader.chars)
        if reader.advanced:
            self.stream.text_advanced()
            # Its reader, which has not read this text, would forward it again.
            self.stream.request_close()

    def whole_log_ended(self, now: float, *, delimited: bool = True) -> None:
        """Process the end of the whole log; ``delimited`` if the response declares its end (length or chunked)."""
        self._log.closed()
        match self._log.purpose:
            case LogExcerpt() as excerpt:
                self._compared(now, excerpt.text)
                return
            case LastLines() as last_lines:
                text = last_lines.new_text()
                if text is None:
                    self._log.position_not_found(now)
                    return
                self._read_log(now, text)
        reader, self._log.reader = self._log.reader, None
        if reader is None:
            return
        ended_at = self.status.ended_at
        self._output.log_read(now, reader.chars, is_whole=True)
        self._suspects.log_read()
        self._log.finished_reading(now, reader, self.cursor, job_has_ended=ended_at is not None)
        # A response that was requested before the end may lack the last lines.
        if ended_at is not None and self._log.requested_at >= ended_at:
            self._read_after_end(now, reader, delimited=delimited)
        elif ended_at is None and self._settings.once and self._settings.unfinished:
            self._output.add_lines(reader.flush())
        elif ended_at is None and self._log.was_rotated(reader, self.cursor, delimited=delimited):
            self._handle_rewritten_log(now)
        elif self._log.has_grown:
            # If the next reading brings nothing, the job is silent.
            self.status.text_received(now, check_at=self._log.due + AFTER_READING_SECONDS)

    def whole_log_failed(self, now: float, detail: str, *, transient: bool = True, permanent: bool = False) -> None:
        """Process a failure to open or read the whole log.

        :param transient: whether it says nothing about the log.
        :param permanent: whether no later request for it can succeed.
        """
        self._log.closed()
        if isinstance(self._log.purpose, LogExcerpt):
            if self._log.compare_failed(now, transient=transient):
                self._compared(now, None)
            return
        self._log.failed(now)
        self._output.log_unreadable(now, detail, self._log.failures)
        if self.status.ended_at is not None:
            self._drain_attempts.log_failed(now - self.status.ended_at, transient=transient, permanent=permanent)
        if self._suspects.log_failed(now, transient=transient):
            self._handle_rewritten_log(now)

    # Rules

    def _new_reader(self, kind: type[ReaderT], **more: Any) -> ReaderT:
        redraws = self._settings.progress_interval is not None
        return kind(self.cursor, self._settings.max_line_length, redraws=redraws, redact=self._redact, **more)

    def _usable_sources(self) -> list[commands.StreamSource]:
        return [source for source in self.stream.sources if source not in self._suspects.sources]

    def _read_after_end(self, now: float, reader: TextReader, *, delimited: bool) -> None:
        known = not (reader.advanced or reader.is_short)
        # A stream that has ended with the job, and a whole log that has no more than it, agree: nothing is awaited.
        agreed = known and self.status.has_ended_with(self.stream.completed_at)
        settled = agreed or self._log.requested_at >= self.status.log_settles_at
        if not self._drain_attempts.log_read(reader.chars, settled=settled, known=known, delimited=delimited):
            self._log.schedule_read(max(now, self.status.log_settles_at))
            return
        try:
            self._output.add_lines(reader.flush())
        except ForeignTextError:
            self._handle_rewritten_log(now)
            return
        if reader.is_short:
            # No digest covers so short a text: it is another log, unless it is empty.
            if reader.chars and not reader.recognized:
                self._handle_rewritten_log(now)
                return
            self._output.log_shorter()
        self._completeness = Completeness.COMPLETE

    def _compared(self, now: float, excerpt: str | None) -> None:
        """Resume the stream with an excerpt of the whole log; ``None`` if the log is unavailable."""
        self._log.compared(now, available=excerpt is not None)
        if excerpt is not None:
            self._suspects.log_read()
        reader = self.stream.reader
        if reader is not None:
            self._read_stream(now, lambda: reader.resume(excerpt))
            self._end_stream_if_complete(now, reader)

    def _read_stream(self, now: float, read: Callable[[], list[str]]) -> None:
        try:
            self._output.add_lines(read())
        except ForeignTextError:
            self._suspect(now, "foreign")
            return
        if self.stream.reader is not None:
            self._output.log_read(now, self.stream.reader.chars)
            if self.stream.reader.advanced:
                self.stream.advanced(now)

    def _suspect(self, now: float, why: Suspicion) -> None:
        """Replace a stream that may not match the log by the whole log."""
        self._suspects.add(self.stream.source, now, why)
        self.stream.request_close()
        self._log.schedule_read(now)

    def _end_stream_if_complete(self, now: float, reader: StreamReader) -> None:
        is_open = self.stream.state is ConnectionState.OPEN
        if is_open and self.stream.is_complete and not reader.needs_comparison:
            self._finish_stream(now)

    def _finish_stream(self, now: float) -> None:
        """Give up the stream: get the job's status soon, and open a stream again later."""
        if self.status.ended_at is not None:
            self._flush_last_line(self.stream.reader)
        self.stream.finished(now)
        self.status.expedite(now)

    def _flush_last_line(self, reader: StreamReader | None) -> None:
        """Forward the last line of a stream after the job's end, if the whole log is unavailable."""
        self._drain_attempts.stream_tried(was_open=True)
        # While the whole log is still to be read, the last line comes from there.
        if self._drain_attempts.is_log_next(self._usable_sources()) or reader is None or reader.is_short:
            return
        if self.stream.is_complete or self._drain_attempts.is_out_of_streams:
            self._output.add_lines(reader.flush())
            if self.stream.is_complete:
                self._completeness = Completeness.COMPLETE

    def _handle_rewritten_log(self, now: float) -> None:
        self._output.log_rewritten()
        # A new object: by its identity, Replay.covers() tells that an earlier replay read another log.
        self.cursor = Cursor()
        self._suspects.clear()
        self.stream.request_close()
        self._log.rewritten(now, job_has_ended=self.status.ended_at is not None)
