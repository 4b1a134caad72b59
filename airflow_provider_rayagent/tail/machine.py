"""The log tail of one job, as a state machine without I/O, clock or threads.

The blocking and the asyncio driver share it: they get a command from :meth:`Tail.next`, execute it, and report the
outcome with the method that the command names. :meth:`Tail.take` returns the items to forward.

Theory of operation
-------------------
The tail combines three sources. Each is used for what the others cannot be relied on:

- The **status** is polled, and it alone decides that the job has ended. A stream may end, or send ``complete``, while
  the job is running: proxies and agents close connections, and Ray's own log tail ends early in several cases.
- A **live stream** delivers lines with little delay. Every stream starts at the first character of the log, so the
  part that was already forwarded is skipped, and verified with digests (:mod:`cursor`). A stream that is silent for too
  long is replaced, since a dead peer is silent too.
- The **whole log** is the authority on the text. An excerpt of it is compared with a new stream, to detect whether
  messages are lines or chunks (:mod:`stream_reader`). It is polled while no stream is available or one is suspect
  (:mod:`suspects`), and read again after the job's end until it contains nothing new.

States and transitions::

    FOLLOWING   the job is not known to have ended
                -> DRAINING   its status is terminal, and its log is forwarded
                -> CLOSING    its status is terminal, and its log is not forwarded;
                              gave up: job unknown or not started, agent unreachable, deadline; or checked once
    DRAINING    the job has ended; the rest of its log is read, within the limits of :mod:`draining`
                -> CLOSING    the log was read to its end, or its end is unavailable
    CLOSING     open connections are closed, then the tail finishes

The tail never returns to an earlier state. In each state, at most one stream and one response with the whole log are
open.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_rayagent.tail import commands, draining
from airflow_provider_rayagent.tail.commands import Command, TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.early_checks import AFTER_READING_SECONDS
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.live_stream import ConnectionState, LiveStream
from airflow_provider_rayagent.tail.output import Output
from airflow_provider_rayagent.tail.status import StatusPolling
from airflow_provider_rayagent.tail.stream_reader import StreamReader
from airflow_provider_rayagent.tail.suspects import SuspectStreams, Suspicion
from airflow_provider_rayagent.tail.text_reader import TextReader
from airflow_provider_rayagent.tail.whole_log import WholeLogState
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.tail.live_stream import StreamEnd
    from airflow_provider_rayagent.text.redaction import Redactor

ReaderT = TypeVar("ReaderT", bound=TextReader)


class Phase(Enum):
    """State of a tail; see the module docstring."""

    FOLLOWING = "following"
    DRAINING = "draining"
    CLOSING = "closing"


class Completeness(Enum):
    """How much of an ended job's log was read."""

    PENDING = "pending"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """The end of the log is unavailable."""


class Tail:
    """Follows one job to its end.

    :param cursor: the position at which to resume.
    :param deadline: when to give up, on the driver's clock.
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
        self._status = StatusPolling(self._settings, deadline, jitter)
        self._stream = LiveStream(self._settings, jitter)
        self._log = WholeLogState(self._settings, jitter)
        self._suspects = SuspectStreams()
        self._drain_attempts = draining.DrainAttempts()
        self._completeness = Completeness.PENDING if self._settings.forward else Completeness.COMPLETE
        self._output = Output()

    @property
    def log_is_whole(self) -> bool:
        """Whether the job has ended and its log was read to its end."""
        return self._completeness is Completeness.COMPLETE

    @property
    def stream_end(self) -> StreamEnd:
        """Why the last stream ended, or was not opened."""
        return self._stream.end

    def take(self) -> list[Item]:
        """Return and remove the items to forward, in order."""
        return self._output.take()

    def next(self, now: float) -> Command:
        """Return the next command. ``now`` is a monotonic clock in seconds."""
        self._add_progress(now)
        if self._log.state is ConnectionState.CLOSING:
            self._log.closed()
            return commands.CloseWholeLog()
        if self._stream.state is ConnectionState.CLOSING:
            self._stream.closed()
            return commands.CloseStream()
        if self._status.is_due(now):
            return commands.GetStatus()
        self._update_phase()
        if self._phase is Phase.CLOSING:
            return self._close()
        if self._log.state is ConnectionState.OPEN:
            return commands.ReadWholeLog()
        return self._follow(now) if self._phase is Phase.FOLLOWING else self._drain(now)

    @property
    def _settled_at(self) -> float:
        """When nothing more is written to the log of a job that has ended."""
        return self._status.ended_by + draining.SETTLE_SECONDS

    # States

    def _update_phase(self) -> None:
        if self._status.give_up_reason is not None:
            self._phase, self._end = Phase.CLOSING, self._status.give_up_reason
        elif self._status.ended_at is not None:
            is_pending = self._completeness is Completeness.PENDING
            self._phase, self._end = (Phase.DRAINING, None) if is_pending else (Phase.CLOSING, End.JOB_ENDED)
        elif self._settings.once and self._status.status and (self._log.was_tried or not self._settings.forward):
            self._phase, self._end = Phase.CLOSING, End.CHECKED_ONCE

    def _follow(self, now: float) -> Command:
        """Keep a stream open; poll the whole log while there is none."""
        if self._stream.state is ConnectionState.OPEN:
            if now < self._stream.timeout_at:
                return self._compare_or_read(now, min(self._status.next_due(), self._stream.timeout_at))
            self._stream.extend_silence_timeout()
            self._finish_stream(now)
            return self.next(now)
        # The job's details have its secrets, which no line may show: no log is opened before them.
        if not self._settings.forward or self._status.status is None:
            return self._wait(now, self._status.next_due())
        due = self._log.due
        for source in () if self._settings.once else self._usable_sources():
            if now >= self._stream.due(source):
                return self._open_stream(source)
            due = min(due, self._stream.due(source))
        return self._log.open(now, self.cursor) if now >= self._log.due else self._wait(now, due)

    def _drain(self, now: float) -> Command:
        """Read the whole log until it contains nothing new; if that fails, try a stream for its end."""
        usable = self._usable_sources()
        if self._drain_attempts.is_log_next(usable):
            return self._log.open(now) if now >= self._log.due else self._wait(now, self._log.due)
        if self._stream.state is ConnectionState.OPEN:
            until = max(self._stream.last_text_at, self._status.ended_at or now) + draining.STREAM_SECONDS
            if now < until:
                return self._compare_or_read(now, until)
            self._finish_stream(now)
            return self.next(now)
        if self._drain_attempts.is_out_of_streams or not usable:
            self._output.log_end_lost()
            self._completeness = Completeness.INCOMPLETE
            return self.next(now)
        source = min(usable, key=self._stream.due)
        due = self._stream.due(source)
        return self._open_stream(source) if now >= due else self._wait(now, due)

    def _close(self) -> Command:
        if self._log.state is ConnectionState.OPEN:
            self._log.closed()
            return commands.CloseWholeLog()
        if self._stream.state is ConnectionState.OPEN:
            self._stream.closed()
            return commands.CloseStream()
        return commands.Finish(self._end or End.JOB_ENDED)

    def _compare_or_read(self, now: float, until: float) -> Command:
        reader = self._stream.reader
        if reader is not None and reader.needs_comparison:
            if now >= self._log.compare_due:
                self._log.excerpt = reader.next_excerpt()
                return self._log.open(now)
            until = min(until, self._log.compare_due)
            if reader.is_full:
                return commands.Wait(max(until - now, 0.0))
        return commands.ReadStream(max(until - now, 0.0))

    def _open_stream(self, source: commands.StreamSource) -> Command:
        self._stream.source = source
        return commands.OpenStream(source)

    def _wait(self, now: float, until: float) -> Command:
        if self._phase is Phase.FOLLOWING:
            until = min(until, self._status.next_due())
        return commands.Wait(max(until - now, 0.0))

    # Reports from the driver: status

    def status_received(self, now: float, status: str, *, terminal: bool, ended_ago: float = 0.0) -> None:
        """Process the job's status; ``ended_ago``: how many seconds ago the job ended, at least."""
        recovered = self._status.is_failing
        if self._status.received(now, status, terminal=terminal, ended_ago=ended_ago):
            self._stream.status_changed(now)
            self._log.status_changed(
                draining.first_read_at(now, self._settled_at, self.cursor.chars) if terminal else now
            )
        elif recovered:
            self._stream.service_recovered(now)
            self._log.service_recovered(now)

    def status_missing(self, now: float) -> None:
        """Process a response that the job is unknown."""
        self._status.missing(now)

    def status_failed(self, now: float, *, permanent: bool = False) -> None:
        """Process a failure to get the status; ``permanent`` if a retry cannot succeed (a rejected token)."""
        self._status.failed(now, permanent=permanent)

    def end_expected(self, now: float) -> None:
        """Get the status soon: the job has written what it writes last."""
        self._status.end_expected(now)

    # Reports from the driver: stream

    def stream_opened(self, now: float) -> None:
        """Start reading the stream."""
        self._stream.opened(now, self._new_reader(StreamReader))
        self._suspects.new_stream()

    def stream_failed(self, now: float) -> None:
        """Process a failure to open the stream."""
        self._stream.failed(now)
        if self._status.ended_at is not None:
            self._drain_attempts.stream_tried(was_open=False)

    def stream_received(self, now: float, events: Sequence[Event]) -> None:
        """Process messages of the stream."""
        reader = self._stream.reader
        if reader is None:
            return
        messages: list[str] = []
        is_unclear = False
        for event in events:
            is_unclear = self._suspects.is_unclear(event)
            if is_unclear:
                break
            if event.kind == "log":
                messages.append(event.message)
            elif event.kind == "error":
                self._output.add_agent_error(event.message)
            elif event.kind == "complete":
                self._stream.is_complete = True
                break
        has_text = any(messages)
        self._stream.peer_active(now, with_text=has_text)
        if has_text:
            self._status.text_received(now)
        self._read_stream(now, lambda: reader.feed(messages))
        if is_unclear:
            self._suspect(now, "odd")
        self._end_stream_if_complete(now, reader)

    def stream_idle(self, now: float, *, alive: bool = False) -> None:
        """Note that no message arrived in time; ``alive`` if the peer showed other signs of life."""
        if alive:
            self._stream.peer_active(now)

    def stream_ended(self, now: float, *, too_long: bool = False) -> None:
        """Process the end of the stream, which the driver has closed.

        :param too_long: whether it ended because a message was too long to hold in memory.
        """
        if self._stream.state is not ConnectionState.CLOSED:
            if too_long:
                self._suspect(now, "too long")
            self._finish_stream(now)
            self._stream.closed()

    # Reports from the driver: whole log

    def whole_log_opened(self, now: float) -> None:  # noqa: ARG002 - like the other reports
        """Start reading the response with the whole log."""
        self._log.opened(lambda replay: self._new_reader(TextReader, replay=replay))

    def whole_log_received(self, now: float, text: str) -> None:
        """Process a chunk of the whole log."""
        if self._log.excerpt is not None:
            if self._log.excerpt.feed(text):
                self._log.request_close()
                self._compared(now, self._log.excerpt.text)
            return
        if self._log.last_lines is None:
            self._read_log(now, text)
        elif not self._log.last_lines.feed(text):
            self._log.request_close()
            self._log.position_not_found(now)

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
        if reader.advanced:
            self._output.log_readable()
            self._stream.text_advanced()
            self._stream.request_close()

    def whole_log_ended(self, now: float, *, delimited: bool = True) -> None:
        """Process the end of the whole log; ``delimited`` if the response declares its end (length or chunked)."""
        self._log.closed()
        if self._log.excerpt is not None:
            self._compared(now, self._log.excerpt.text)
            return
        if self._log.last_lines is not None:
            text = self._log.last_lines.new_text()
            if text is None:
                self._log.position_not_found(now)
                return
            self._read_log(now, text)
        reader, self._log.reader = self._log.reader, None
        if reader is None:
            return
        ended_at = self._status.ended_at
        self._output.log_readable()
        self._suspects.log_read()
        self._log.finished_reading(now, reader, self.cursor, job_has_ended=ended_at is not None)
        if ended_at is not None and self._log.requested_at >= ended_at:
            self._read_after_end(now, reader, delimited=delimited)
        elif ended_at is None and self._settings.once and self._settings.unfinished:
            self._output.add_lines(reader.flush())
        elif self._log.has_grown:
            # If the next reading brings nothing, the job is silent.
            self._status.text_received(now, check_at=self._log.due + AFTER_READING_SECONDS)

    def whole_log_failed(self, now: float, detail: str, *, transient: bool = True, permanent: bool = False) -> None:
        """Process a failure to open or read the whole log.

        :param transient: whether it says nothing about the log.
        :param permanent: whether no later request for it can succeed.
        """
        self._log.closed()
        if self._log.excerpt is not None:
            if self._log.compare_failed(now, transient=transient):
                self._compared(now, None)
            return
        self._log.failed(now)
        self._output.log_unreadable(now, detail, self._log.failures)
        if self._status.ended_at is not None:
            self._drain_attempts.log_failed(now - self._status.ended_at, transient=transient, permanent=permanent)
        if self._suspects.log_failed(now, transient=transient):
            self._handle_rewritten_log(now)

    # Rules

    def _new_reader(self, kind: type[ReaderT], **more: Any) -> ReaderT:
        redraws = self._settings.progress_interval is not None
        return kind(self.cursor, self._settings.max_line_length, redraws=redraws, redact=self._redact, **more)

    def _add_progress(self, now: float) -> None:
        interval = self._settings.progress_interval
        for reader in (self._stream.reader, self._log.reader):
            if interval is not None and reader is not None:
                self._output.add_progress(now, reader.state, interval)

    def _usable_sources(self) -> list[commands.StreamSource]:
        return [source for source in self._stream.sources if source not in self._suspects.sources]

    def _read_after_end(self, now: float, reader: TextReader, *, delimited: bool) -> None:
        settled, known = self._log.requested_at >= self._settled_at, not (reader.advanced or reader.is_short)
        if not self._drain_attempts.log_read(reader.chars, settled=settled, known=known, delimited=delimited):
            self._log.schedule_read(max(now, self._settled_at))
            return
        try:
            self._output.add_lines(reader.flush())
        except ForeignTextError:
            self._handle_rewritten_log(now)
            return
        if reader.is_short:
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
        reader = self._stream.reader
        if reader is not None:
            self._read_stream(now, lambda: reader.resume(excerpt))
            self._end_stream_if_complete(now, reader)

    def _read_stream(self, now: float, read: Callable[[], list[str]]) -> None:
        try:
            self._output.add_lines(read())
        except ForeignTextError:
            self._suspect(now, "foreign")
            return
        if self._stream.reader is not None and self._stream.reader.advanced:
            self._stream.advanced(now)
            self._output.log_readable()

    def _suspect(self, now: float, why: Suspicion) -> None:
        """Replace a stream that may not match the log by the whole log."""
        self._suspects.add(self._stream.source, now, why)
        self._stream.request_close()
        self._log.schedule_read(now)

    def _end_stream_if_complete(self, now: float, reader: StreamReader) -> None:
        is_open = self._stream.state is ConnectionState.OPEN
        if is_open and self._stream.is_complete and not reader.needs_comparison:
            self._finish_stream(now)

    def _finish_stream(self, now: float) -> None:
        """Give up the stream: get the job's status soon, and open a stream again later."""
        if self._status.ended_at is not None:
            self._flush_last_line(self._stream.reader)
        self._stream.finished(now)
        self._status.expedite(now)

    def _flush_last_line(self, reader: StreamReader | None) -> None:
        """Forward the last line of a stream after the job's end, if the whole log is unavailable."""
        self._drain_attempts.stream_tried(was_open=True)
        if self._drain_attempts.is_log_next(self._usable_sources()) or reader is None or reader.is_short:
            return
        if self._stream.is_complete or self._drain_attempts.is_out_of_streams:
            self._output.add_lines(reader.flush())
            if self._stream.is_complete:
                self._completeness = Completeness.COMPLETE

    def _handle_rewritten_log(self, now: float) -> None:
        self._output.log_rewritten()
        self.cursor = Cursor()
        self._suspects.clear()
        self._stream.request_close()
        self._log.rewritten(now, job_has_ended=self._status.ended_at is not None)
