"""The tail of one job: a state machine that says what to do next. No I/O, no clock, no threads.

A driver asks :meth:`Tail.next` for a command, carries it out, and reports the outcome by the method that the command
names; :meth:`Tail.take` gives the items to forward. The blocking and the asyncio driver share every rule.

How it works
------------
Three sources tell of a job. Each of them is asked because the others can't be trusted with what it is asked for:

- Its **status** is polled, and alone decides that the job has ended. A stream that ends or says that it is complete may
  do so in mid-job: proxies and agents close connections, and Ray's own tail ends early in several cases.
- A **live stream** brings lines early. Every stream begins at the first character of the log; what was forwarded before
  is counted off and verified by digest (:mod:`cursor`). A stream that stays silent for too long is replaced, since a
  peer that is gone is silent too.
- The **whole log** is the authority on the text. A stretch of it is compared with a new stream, to find out how
  messages make up the text (:mod:`messages`). It is polled where no stream can be had or where one is suspect
  (:mod:`suspects`), and read once more after the job's end, until nothing new is in it.

The phases, and what leads from one to the next::

    FOLLOWING   the job has not ended, as far as is known
                -> DRAINING   its status is terminal
                -> CLOSING    given up: unknown job, unreachable service, not started, deadline; or looked at once
    DRAINING    the job has ended; what is left of its log is read (:mod:`ending` has the bounds)
                -> CLOSING    the log is read to its end, or its end can't be had
    CLOSING     open connections are closed, then the tail is finished

No phase is left backwards. In each of them at most one stream and one answer with the whole log are open.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_rayagent.tail import commands as do
from airflow_provider_rayagent.tail import ending
from airflow_provider_rayagent.tail.commands import Command, TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.live_stream import ConnectionState, LiveStream
from airflow_provider_rayagent.tail.messages import StreamReading
from airflow_provider_rayagent.tail.output import Output
from airflow_provider_rayagent.tail.reading import TextReading
from airflow_provider_rayagent.tail.status import StatusPolling
from airflow_provider_rayagent.tail.suspects import SuspectStreams, Suspicion
from airflow_provider_rayagent.tail.whole_log import WholeLog
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.text.redaction import Redactor

ReadingT = TypeVar("ReadingT", bound=TextReading)


class Phase(Enum):
    """See the head of this module."""

    FOLLOWING = "following"
    DRAINING = "draining"
    CLOSING = "closing"


class Completeness(Enum):
    """How much of an ended job's log was read."""

    OPEN = "open"
    WHOLE = "whole"
    LOST = "lost"
    """The end of the log can't be had."""


class Tail:
    """Follow one job to its end.

    :param cursor: what was forwarded before, to go on from there.
    :param deadline: moment at which to give up, on the driver's clock.
    :param jitter: returns a number in [0, 1).
    :param redact: knows the secrets that a piece of a long line may not divide; none is taken out here.
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
        self._log = WholeLog(self._settings, jitter)
        self._suspects = SuspectStreams()
        self._ending = ending.Ending()
        self._completeness = Completeness.OPEN if self._settings.forward else Completeness.WHOLE
        self._output = Output()

    @property
    def log_is_whole(self) -> bool:
        """Whether the log was read to its end, the job having ended."""
        return self._completeness is Completeness.WHOLE

    def take(self) -> list[Item]:
        """Return the items that are ready to be forwarded, in order, and forget them."""
        return self._output.take()

    def next(self, now: float) -> Command:
        """Return what to do next. ``now`` is a monotonic clock in seconds."""
        self._show_progress(now)
        if self._log.state is ConnectionState.DONE:
            self._log.closed()
            return do.CloseWholeLog()
        if self._stream.state is ConnectionState.DONE:
            self._stream.closed()
            return do.CloseStream()
        if self._status.is_due(now):
            return do.AskStatus()
        self._change_phase()
        if self._phase is Phase.CLOSING:
            return self._close()
        if self._log.state is ConnectionState.OPEN:
            return do.ReadWholeLog()
        return self._follow(now) if self._phase is Phase.FOLLOWING else self._drain(now)

    # Phases

    def _change_phase(self) -> None:
        if self._status.given_up is not None:
            self._phase, self._end = Phase.CLOSING, self._status.given_up
        elif self._status.ended_at is not None:
            is_open = self._completeness is Completeness.OPEN
            self._phase, self._end = (Phase.DRAINING, None) if is_open else (Phase.CLOSING, End.JOB_ENDED)
        elif self._settings.once and self._status.status and (self._log.was_tried or not self._settings.forward):
            self._phase, self._end = Phase.CLOSING, End.LOOKED

    def _follow(self, now: float) -> Command:
        """Keep a stream open, or poll the whole log while there is none."""
        if self._stream.state is ConnectionState.OPEN:
            if now < self._stream.dead_at:
                return self._compare_or_read(now, min(self._status.next_moment(), self._stream.dead_at))
            self._stream_is_dead(now)
            return self.next(now)
        if not self._settings.forward or (self._settings.once and self._status.status is None):
            return self._wait(now, self._status.next_moment())
        due = self._log.due
        for source in () if self._settings.once else self._usable_sources():
            if now >= self._stream.due(source):
                return self._open_stream(source)
            due = min(due, self._stream.due(source))
        return do.OpenWholeLog() if now >= self._log.due else self._wait(now, due)

    def _drain(self, now: float) -> Command:
        """Read the whole log until nothing new is in it; where it is refused, try a stream for the log's end."""
        if not self._ending.is_text_refused:
            return do.OpenWholeLog() if now >= self._log.due else self._wait(now, self._log.due)
        if self._stream.state is ConnectionState.OPEN:
            until = max(self._stream.said_at, self._status.ended_at or now) + ending.STREAM_SECONDS
            if now < until:
                return self._compare_or_read(now, until)
            self._stream_is_over(now)
            return self.next(now)
        usable = self._usable_sources()
        if self._ending.is_last_stream or not usable:
            self._output.lost()
            self._completeness = Completeness.LOST
            return self.next(now)
        source = min(usable, key=self._stream.due)
        due = self._stream.due(source)
        return self._open_stream(source) if now >= due else self._wait(now, due)

    def _close(self) -> Command:
        if self._log.state is ConnectionState.OPEN:
            self._log.closed()
            return do.CloseWholeLog()
        if self._stream.state is ConnectionState.OPEN:
            self._stream.closed()
            return do.CloseStream()
        return do.Finish(self._end or End.JOB_ENDED)

    def _compare_or_read(self, now: float, until: float) -> Command:
        reading = self._stream.reading
        if reading is not None and reading.in_question:
            if now >= self._log.compare_due:
                self._log.stretch = reading.ask()
                return do.OpenWholeLog()
            until = min(until, self._log.compare_due)
            if reading.is_full:
                return do.Wait(max(until - now, 0.0))
        return do.ReadStream(max(until - now, 0.0))

    def _open_stream(self, source: do.StreamSource) -> Command:
        self._stream.source = source
        return do.OpenStream(source)

    def _wait(self, now: float, until: float) -> Command:
        if self._phase is Phase.FOLLOWING:
            until = min(until, self._status.next_moment())
        return do.Wait(max(until - now, 0.0))

    # Reports of the driver: the status

    def status_received(self, now: float, status: str, *, terminal: bool) -> None:
        """Take the job's status."""
        recovered = self._status.in_trouble
        if self._status.received(now, status, terminal=terminal):
            self._stream.status_changed(now)
            self._log.status_changed(now)
        elif recovered:
            self._stream.service_recovered(now)
            self._log.service_recovered(now)

    def status_missing(self, now: float) -> None:
        """Take the answer that there is no such job."""
        self._status.missing(now)

    def status_failed(self, now: float, *, permanent: bool = False) -> None:
        """Take the failure to read the status; ``permanent`` if another try is of no use (a refused token)."""
        self._status.failed(now, permanent=permanent)

    # Reports of the driver: the stream

    def stream_opened(self, now: float) -> None:
        """Take the success of opening the stream."""
        self._stream.opened(now, self._reading(StreamReading))
        self._suspects.new_stream()

    def stream_failed(self, now: float) -> None:
        """Take the failure to open the stream."""
        self._stream.failed(now)
        if self._status.ended_at is not None:
            self._ending.stream_tried()

    def stream_received(self, now: float, events: Sequence[Event]) -> None:
        """Take messages of the stream."""
        reading = self._stream.reading
        if reading is None:
            return
        messages: list[str] = []
        is_odd = False
        for event in events:
            is_odd = self._suspects.is_odd(event)
            if is_odd:
                break
            if event.kind == "log":
                messages.append(event.message)
            elif event.kind == "error":
                self._output.service_error(event.message)
            elif event.kind == "complete":
                self._stream.is_complete = True
                break
        self._stream.alive(now, with_text=any(messages))
        self._read_stream(now, lambda: reading.feed(messages))
        if is_odd:
            self._suspect(now, "odd")
        self._end_stream_if_complete(now, reading)

    def stream_idle(self, now: float, *, alive: bool = False) -> None:
        """Take that the stream brought nothing in the time given; ``alive`` if the peer showed itself otherwise."""
        if alive:
            self._stream.alive(now)

    def stream_ended(self, now: float, *, too_long: bool = False) -> None:
        """Take the end of the stream, in whatever way; the driver has closed it.

        :param too_long: the driver gave it up at a message that is too long to be held.
        """
        if self._stream.state is not ConnectionState.CLOSED:
            if too_long:
                self._suspect(now, "too long")
            self._stream_is_over(now)
            self._stream.closed()

    # Reports of the driver: the whole log

    def whole_log_opened(self, now: float) -> None:
        """Take the beginning of the answer with the whole log."""
        self._log.opened(now, self._reading(TextReading))

    def whole_log_received(self, now: float, text: str) -> None:
        """Take a piece of the whole log."""
        if self._log.stretch is not None:
            if self._log.stretch.feed(text):
                self._log.done()
                self._compared(now, self._log.stretch.known)
            return
        reading = self._log.reading
        if reading is None:
            return
        try:
            self._output.lines(reading.feed_text(text))
        except ForeignTextError:
            self._log.done()
            self._rewritten(now)
            return
        if reading.advanced:
            self._output.readable()
            self._stream.text_advanced()
            self._stream.done()

    def whole_log_ended(self, now: float, *, delimited: bool = True) -> None:
        """Take the end of the whole log; ``delimited`` if the answer itself said so (a length, a last chunk)."""
        self._log.closed()
        if self._log.stretch is not None:
            self._compared(now, self._log.stretch.known)
            return
        reading, self._log.reading = self._log.reading, None
        if reading is None:
            return
        ended_at = self._status.ended_at
        self._output.readable()
        self._suspects.text_read()
        self._log.was_read(now, job_has_ended=ended_at is not None)
        if ended_at is not None and self._log.opened_at >= ended_at:
            self._read_after_end(now, ended_at, reading, delimited=delimited)

    def whole_log_failed(self, now: float, detail: str, *, transient: bool = True) -> None:
        """Take the failure to open or read the whole log; ``transient`` if another try may well do better."""
        self._log.closed()
        if self._log.stretch is not None:
            if self._log.compare_failed(now, transient=transient):
                self._compared(now, None)
            return
        self._log.failed(now)
        self._output.unreadable(now, detail, self._log.failures)
        if self._status.ended_at is not None:
            self._ending.text_failed(now - self._status.ended_at, transient=transient)
        if self._suspects.text_failed(now, transient=transient):
            self._rewritten(now)

    # Rules

    def _reading(self, kind: type[ReadingT]) -> ReadingT:
        redraws = self._settings.progress_interval is not None
        return kind(self.cursor, self._settings.max_line_length, redraws=redraws, redact=self._redact)

    def _show_progress(self, now: float) -> None:
        interval = self._settings.progress_interval
        for reading in (self._stream.reading, self._log.reading):
            if interval is not None and reading is not None:
                self._output.progress(now, reading.state, interval)

    def _usable_sources(self) -> list[do.StreamSource]:
        return [source for source in self._stream.sources if source not in self._suspects.sources]

    def _read_after_end(self, now: float, ended_at: float, reading: TextReading, *, delimited: bool) -> None:
        if not self._ending.text_read(reading.chars, delimited=delimited):
            self._log.read_at(max(now, ended_at + ending.SETTLE_SECONDS))
            return
        try:
            self._output.lines(reading.flush())
        except ForeignTextError:
            self._rewritten(now)
            return
        if reading.is_short:
            if reading.chars and not reading.recognized:
                self._rewritten(now)
                return
            self._output.shorter()
        self._completeness = Completeness.WHOLE

    def _compared(self, now: float, known: str | None) -> None:
        """Go on with a stream, given what the whole log has in its place; ``None`` if the log can't be read."""
        self._log.compared(now, is_known=known is not None)
        if known is not None:
            self._suspects.text_read()
        reading = self._stream.reading
        if reading is not None:
            self._read_stream(now, lambda: reading.answer(known))
            self._end_stream_if_complete(now, reading)

    def _read_stream(self, now: float, read: Callable[[], list[str]]) -> None:
        try:
            self._output.lines(read())
        except ForeignTextError:
            self._suspect(now, "foreign")
            return
        if self._stream.reading is not None and self._stream.reading.advanced:
            self._stream.advanced(now)
            self._output.readable()

    def _suspect(self, now: float, why: Suspicion) -> None:
        """The stream may not bring the log as it is: let the whole log decide."""
        self._suspects.add(self._stream.source, now, why)
        self._stream.done()
        self._log.read_at(now)

    def _end_stream_if_complete(self, now: float, reading: StreamReading) -> None:
        is_open = self._stream.state is ConnectionState.OPEN
        if self._stream.is_complete and is_open and not reading.in_question:
            self._stream_is_over(now)

    def _stream_is_dead(self, now: float) -> None:
        self._stream.lengthen_silence()
        self._stream_is_over(now)

    def _stream_is_over(self, now: float) -> None:
        """The stream is of no more use: ask for the job's status soon, and open a stream again later."""
        if self._status.ended_at is not None:
            self._last_words(self._stream.reading)
        self._stream.over(now)
        self._status.hurry(now)

    def _last_words(self, reading: StreamReading | None) -> None:
        """After the job's end, take the last line of a stream that ends the log."""
        self._ending.stream_tried()
        if not self._ending.is_text_refused or reading is None or reading.is_short:
            return
        if self._stream.is_complete or self._ending.is_last_stream:
            self._output.lines(reading.flush())
            if self._stream.is_complete:
                self._completeness = Completeness.WHOLE

    def _rewritten(self, now: float) -> None:
        self._output.rewritten()
        self.cursor = Cursor()
        self._suspects.clear()
        self._stream.done()
        self._log.rewritten(now)
