"""The tail of one job: what to do next, given what was heard. No I/O, no clock, no threads.

A driver asks :meth:`Tail.next` what to do, does it, and tells the outcome by the method that the command names;
:meth:`Tail.take` gives the items to forward. Blocking and asyncio drivers share every rule.

The rules in short. The job's *status* alone says when it has ended. A *stream* brings lines early; each stream
begins at the first character, and what was forwarded is counted off and verified. The *whole log* is the last
word: it settles how messages make up the text, replaces streams that can't be had, and is read once the job
has ended until nothing new is in it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_rayagent.tail import commands as do
from airflow_provider_rayagent.tail import ending
from airflow_provider_rayagent.tail.backoff import Backoff, pause_between_readings
from airflow_provider_rayagent.tail.commands import Command, StreamSource, TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor, ForeignTextError
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.output import Output
from airflow_provider_rayagent.tail.reading import Question, StreamReading, TextReading
from airflow_provider_rayagent.tail.status import StatusWatch
from airflow_provider_rayagent.tail.suspects import Doubts
from airflow_provider_rayagent.text.redaction import NO_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.tail.suspects import Doubt
    from airflow_provider_rayagent.text.redaction import Redactor

ReadingT = TypeVar("ReadingT", bound=TextReading)

MAX_SILENCE_SECONDS = 600.0
QUESTION_SECONDS = 1.0
MAX_QUESTION_FAILURES = 10
REOPEN_SECONDS = 1.0
MAX_PAUSE_SECONDS = 15.0


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
        self._watch = StatusWatch(self._settings, deadline, jitter)
        self._output = Output()
        self._doubts = Doubts()

        self._stream: StreamReading | None = None
        self._source: StreamSource = "websocket"
        self._backoff = {source: Backoff(1.0, MAX_PAUSE_SECONDS, jitter) for source in self._settings.sources}
        self._opened_at = self._heard_at = 0.0
        self._silence = self._settings.silence_timeout
        self._complete = False
        self._said_at = 0.0

        self._text: TextReading | None = None
        self._text_open = False
        self._asking: Question | None = None
        self._question_failures = 0
        self._question_due = 0.0
        self._text_backoff = Backoff(0.5, MAX_PAUSE_SECONDS, jitter)
        self._text_opened_at = 0.0

        self._close_stream = self._close_text = False
        self._ending = ending.Ending()
        self._log_done = not self._settings.forward
        self._log_lost = False
        self._looked = False

    @property
    def log_is_whole(self) -> bool:
        """Whether the log was read to its end, the job having ended."""
        return self._log_done and not self._log_lost

    def take(self) -> list[Item]:
        """Return the items that are ready to be forwarded, in order, and forget them."""
        return self._output.take()

    def next(self, now: float) -> Command:
        """Return what to do next. ``now`` is a monotonic clock in seconds."""
        self._tell_progress(now)
        if self._close_text:
            self._close_text = self._text_open = False
            return do.CloseText()
        if self._close_stream:
            self._close_stream, self._stream = False, None
            return do.CloseStream()
        if self._watch.is_due(now):
            return do.AskStatus()
        end = self._end()
        if end is not None:
            return self._finish(end)
        if self._text_open:
            return do.ReadText()
        if self._watch.ended_at is not None:
            return self._next_final(now)
        return self._next_live(now)

    # What the driver tells.

    def status(self, now: float, status: str, *, terminal: bool) -> None:
        """The agent told the job's status."""
        recovered = self._watch.in_trouble
        news = self._watch.answered(now, status, terminal=terminal)
        for backoff in (*self._backoff.values(), self._text_backoff):
            if news:
                backoff.succeeded(now)
            elif recovered:
                backoff.hasten(now)

    def status_missing(self, now: float) -> None:
        """The agent does not know the job."""
        self._watch.missing(now)

    def status_failed(self, now: float, *, hopeless: bool = False) -> None:
        """The status could not be had; ``hopeless`` if another try is of no use (a refused token)."""
        self._watch.failed(now, hopeless=hopeless)

    def stream_opened(self, now: float) -> None:
        """The stream is open."""
        self._stream = self._reading(StreamReading)
        self._opened_at = self._heard_at = self._said_at = now
        self._complete = False
        self._doubts.new_stream()

    def stream_failed(self, now: float) -> None:
        """The stream could not be opened."""
        self._backoff[self._source].failed(now)
        if self._watch.ended_at is not None:
            self._ending.stream_tried()

    def stream_events(self, now: float, events: Sequence[Event]) -> None:
        """The stream brought messages."""
        reading = self._stream
        if reading is None:
            return
        self._heard_at = now
        messages: list[str] = []
        odd = False
        for event in events:
            odd = self._doubts.is_odd(event)
            if odd:
                break
            if event.kind == "log":
                messages.append(event.message)
            elif event.kind == "error":
                self._output.agent_error(event.message)
            elif event.kind == "complete":
                self._complete = True
                break
        if any(messages):
            self._said_at = now
        self._read_stream(now, lambda: reading.feed(messages))
        if odd:
            self._suspect(now, "odd")
        self._end_if_complete(now, reading)

    def stream_silent(self, now: float, *, alive: bool = False) -> None:
        """The stream brought nothing in the time given; ``alive`` if the peer gave another sign of life."""
        if alive:
            self._heard_at = now

    def stream_ended(self, now: float, *, too_long: bool = False) -> None:
        """The stream ended, in whatever way, and the driver has closed it.

        :param too_long: the driver gave it up at a message that is too long to be held.
        """
        if self._stream is not None:
            if too_long:
                self._suspect(now, "too long")
            self._stream_over(now)
            self._close_stream, self._stream = False, None

    def text_opened(self, now: float) -> None:
        """The whole log begins to come."""
        self._text_open = True
        self._text_opened_at = now
        if self._asking is None:
            self._text = self._reading(TextReading)

    def text_chunk(self, now: float, text: str) -> None:
        """A piece of the whole log came."""
        if self._asking is not None:
            if self._asking.feed(text):
                self._close_text = True
                self._answer(now, self._asking.known)
            return
        reading = self._text
        if reading is None:
            return
        try:
            self._output.lines(reading.feed_text(text))
        except ForeignTextError:
            self._close_text = True
            self._rewritten(now)
            return
        if reading.advanced:
            self._output.readable()
            self._silence = self._settings.silence_timeout
            self._close_stream = self._stream is not None

    def text_ended(self, now: float, *, delimited: bool = True) -> None:
        """The whole log came to its end; ``delimited`` if the answer itself said so (a length, a last chunk)."""
        self._text_open = False
        if self._asking is not None:
            self._answer(now, self._asking.known)
            return
        reading, self._text = self._text, None
        if reading is None:
            return
        self._output.readable()
        self._doubts.text_read()
        self._question_failures = 0
        self._looked = True
        ended_at = self._watch.ended_at
        if ended_at is None:
            pause = pause_between_readings(self._settings.poll_interval, now - self._text_opened_at)
            self._text_backoff.succeeded(now + pause)
            return
        self._text_backoff.succeeded(now)
        if self._text_opened_at >= ended_at:
            self._final_text_ended(now, reading, delimited=delimited)

    def text_failed(self, now: float, detail: str, *, passing: bool = True) -> None:
        """The whole log could not be had, or broke off; ``passing`` if another try may well do better."""
        self._text_open = False
        if self._asking is not None:
            self._question_failures += 1 if passing else MAX_QUESTION_FAILURES // 2
            self._question_due = now + QUESTION_SECONDS
            self._asking = None
            if self._question_failures >= MAX_QUESTION_FAILURES:
                self._answer(now, None)
            return
        self._text = None
        self._looked = True
        self._text_backoff.failed(now)
        self._output.unreadable(now, detail, self._text_backoff.failures)
        if self._watch.ended_at is not None:
            self._ending.text_failed(now - self._watch.ended_at, passing=passing)
        if self._doubts.text_failed(now, passing=passing):
            self._rewritten(now)

    # Rules.

    def _reading(self, kind: type[ReadingT]) -> ReadingT:
        redraws = self._settings.progress_interval is not None
        return kind(self.cursor, self._settings.max_line_length, redraws=redraws, redact=self._redact)

    def _tell_progress(self, now: float) -> None:
        interval = self._settings.progress_interval
        for reading in (self._stream, self._text):
            if interval is not None and reading is not None:
                self._output.progress(now, reading.state, interval)

    def _end(self) -> End | None:
        if self._watch.given_up is not None:
            return self._watch.given_up
        if self._watch.ended_at is not None:
            return End.JOB_ENDED if self._log_done else None
        if self._settings.once and (self._looked or self._log_done) and self._watch.status is not None:
            return End.LOOKED
        return None

    def _finish(self, end: End) -> Command:
        if self._text_open:
            self._text_open = False
            return do.CloseText()
        if self._stream is not None:
            self._stream = None
            return do.CloseStream()
        return do.Finish(end)

    def _next_live(self, now: float) -> Command:
        if self._stream is not None:
            since = self._heard_at if self._stream.heard else self._opened_at
            if now < since + self._silence:
                return self._ask_or_read(now, min(self._watch.next_moment(), since + self._silence))
            self._silence = min(2 * self._silence, MAX_SILENCE_SECONDS)
            self._stream_over(now)
            return self.next(now)
        if not self._settings.forward or (self._settings.once and self._watch.status is None):
            return self._wait(now, self._watch.next_moment())
        due = self._text_backoff.due
        for source, backoff in self._backoff.items():
            if self._settings.once or source in self._doubts.sources:
                continue
            if now >= backoff.due:
                self._source = source
                return do.OpenStream(source)
            due = min(due, backoff.due)
        return self._open_text() if now >= self._text_backoff.due else self._wait(now, due)

    def _next_final(self, now: float) -> Command:
        """Read what is still to be read of an ended job's log, within bounds."""
        if not self._ending.is_text_refused:
            due = self._text_backoff.due
            return self._open_text() if now >= due else self._wait(now, due)
        if self._stream is not None:
            until = max(self._said_at, self._watch.ended_at or now) + ending.STREAM_SECONDS
            if now < until:
                return self._ask_or_read(now, until)
            self._stream_over(now)
            return self.next(now)
        usable = [source for source in self._backoff if source not in self._doubts.sources]
        if self._ending.is_last_stream or not usable:
            self._output.lost()
            self._log_done = self._log_lost = True
            return self.next(now)
        self._source = min(usable, key=lambda source: self._backoff[source].due)
        due = self._backoff[self._source].due
        return do.OpenStream(self._source) if now >= due else self._wait(now, due)

    def _ask_or_read(self, now: float, until: float) -> Command:
        reading = self._stream
        if reading is not None and reading.in_question:
            if now >= self._question_due:
                return self._open_text(reading.ask())
            until = min(until, self._question_due)
            if reading.is_full:
                return do.Wait(max(until - now, 0.0))
        return do.ReadStream(max(until - now, 0.0))

    def _final_text_ended(self, now: float, reading: TextReading, *, delimited: bool) -> None:
        if not self._ending.text_read(reading.chars, delimited=delimited):
            self._text_backoff.succeeded(max(now, (self._watch.ended_at or now) + ending.SETTLE_SECONDS))
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
        self._log_done = True

    def _open_text(self, question: Question | None = None) -> Command:
        self._asking = question
        return do.OpenText()

    def _answer(self, now: float, known: str | None) -> None:
        reading, self._asking = self._stream, None
        if reading is None:
            return
        if known is not None:
            self._question_failures = 0
            self._doubts.text_read()
        self._question_due = now + QUESTION_SECONDS
        self._read_stream(now, lambda: reading.answer(known))
        self._end_if_complete(now, reading)

    def _read_stream(self, now: float, read: Callable[[], list[str]]) -> None:
        reading = self._stream
        try:
            self._output.lines(read())
        except ForeignTextError:
            self._suspect(now, "foreign")
            return
        if reading is not None and reading.advanced:
            self._silence = self._settings.silence_timeout
            self._backoff[self._source].succeeded(now)
            self._output.readable()

    def _suspect(self, now: float, doubt: Doubt) -> None:
        """The stream may not bring the log as it is: let the whole log decide."""
        self._doubts.suspect(self._source, now, doubt)
        self._close_stream = True
        self._text_backoff.succeeded(now)

    def _end_if_complete(self, now: float, reading: StreamReading) -> None:
        if self._complete and not self._close_stream and not reading.in_question:
            self._stream_over(now)

    def _stream_over(self, now: float) -> None:
        """The stream is of no more use: ask what has become of the job, and come back to the stream later."""
        reading = self._stream
        self._close_stream = True
        if self._watch.ended_at is not None:
            self._final_stream_over(reading)
        if reading is not None and reading.advanced:
            self._backoff[self._source].succeeded(now + REOPEN_SECONDS)
        else:
            self._backoff[self._source].failed(now)
        self._watch.hurry(now)

    def _final_stream_over(self, reading: StreamReading | None) -> None:
        self._ending.stream_tried()
        if not self._ending.is_text_refused or reading is None or reading.is_short:
            return
        if self._complete or self._ending.is_last_stream:
            self._output.lines(reading.flush())
            self._log_done = self._complete

    def _rewritten(self, now: float) -> None:
        self._output.rewritten()
        self.cursor = Cursor()
        self._doubts.clear()
        self._close_stream = self._stream is not None
        self._text = None
        self._text_backoff.failed(now)

    def _wait(self, now: float, until: float) -> Command:
        if self._watch.ended_at is None:
            until = min(until, self._watch.next_moment())
        return do.Wait(max(until - now, 0.0))
