"""A simulated world of an agent, a network, a task log and a clock, which one tail drives through one history."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from airflow_provider_rayagent.stream.events import COMPLETE, OTHER, Event
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.draining import SETTLE_SECONDS
from airflow_provider_rayagent.tail.items import LogLines, Notice, Progress
from airflow_provider_rayagent.tail.machine import Tail
from tests.unit.tail.history import halved

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.end import End
    from tests.unit.tail.history import History

MAX_STEPS = 100_000
INSTANT = 0.002
"""Maximum duration of a request or a read."""
MAX_STATUS_FAILURES = 3
"""Consecutive failures, so that the tail does not give up on the agent."""
MAX_RESTARTS = 3
MAX_TEXT_FAILURES = 5
"""Consecutive failures, unless every request for the whole log is to fail."""
NOISE = (
    OTHER,
    Event("error", "Failed to stream logs"),
)
EMPTY = Event("log", "")
"""Includes noise, unless each message is a line."""
JUNK = ("[1, 2]", "not JSON", "7\n")


class Timetable:
    """How much of a text is written at which time.

    :param stages: moments and lengths, ascending.
    """

    def __init__(self, stages: list[tuple[float, int]]) -> None:
        self._moments = [moment for moment, _ in stages]
        self._lengths = [0, *(length for _, length in stages)]
        self.complete_at = self._moments[-1]

    def at(self, moment: float) -> int:
        return self._lengths[bisect_right(self._moments, moment)]

    def next_after(self, moment: float) -> float:
        index = bisect_right(self._moments, moment)
        return self._moments[index] if index < len(self._moments) else float("inf")


class LiveStream:
    """One open stream."""

    def __init__(self, position: int, *, mute: bool) -> None:
        self.position = position
        self.mute = mute
        self.completed = False


class World:
    """Everything outside of a tail.

    Attributes tell what came of it: ``lines``, ``notices``, ``progress`` (moment and text), ``requests`` (moment and
    kind), ``now``, ``end``.

    :param last_lines: whether the last lines of the log can be had alone.
    """

    def __init__(self, history: History, *, last_lines: bool = False) -> None:
        self.history = history
        self.now = 0.0
        self.lines: list[str] = []
        self.notices: list[Notice] = []
        self.progress: list[tuple[float, str]] = []
        self.requests: list[tuple[float, str]] = []
        self.end: End | None = None
        self.steps = 0
        self.restarts = 0
        self._dice = random.Random(history.seed)
        self._write(history.text, _stages(history))
        self._rewrite_at = history.duration / 2 if history.rewritten else float("inf")
        self._stream: LiveStream | None = None
        self._body: tuple[str, int] | None = None
        self._status_failures = self._text_failures = 0
        self._text_ended_early = False
        self.settings = TailSettings(
            sources=history.sources,
            poll_interval=history.poll_interval,
            silence_timeout=history.silence_timeout,
            max_line_length=history.max_line_length,
            progress_interval=history.progress_interval,
            last_lines=last_lines,
        )
        self.tail = self._new_tail(None)

    def run(self) -> World:
        """Play the history to its end.

        :raises AssertionError: if the tail breaks a rule between it and its driver, or does not end.
        """
        while self.end is None:
            self.steps += 1
            assert self.steps < MAX_STEPS, "does not end"
            self._do(self.tail.next(self.now))
            self._forward()
            if self.restarts < MAX_RESTARTS and self._chance(self.history.restarts) and not self._is_over:
                self._restart()
        assert self._stream is None, "a stream is left open"
        assert self._body is None, "the whole log is left open"
        return self

    def busiest(self, seconds: float) -> int:
        """Return the maximum number of requests in any interval of that length."""
        moments = [moment for moment, _ in self.requests]
        return max((bisect_right(moments, moment + seconds) - index for index, moment in enumerate(moments)), default=0)

    def _write(self, text: str, stages: list[tuple[float, int]]) -> None:
        self._text = self._units = text
        self.written = self._units_written = Timetable(stages)
        if self.history.halves:
            self._units = halved(text)
            self._units_written = Timetable([(at, len(halved(text[:length]))) for at, length in stages])

    def _rewrite(self) -> None:
        text, end = self.history.rewritten, max(self.history.duration, self._rewrite_at)
        self._write(text, [(self._rewrite_at, len(text) // 2 + 1), (end, len(text))])
        self._rewrite_at = float("inf")
        if self._stream is not None:
            self._stream.completed = True

    def _new_tail(self, cursor: Cursor | None) -> Tail:
        return Tail(self.settings, cursor, jitter=self._dice.random)

    @property
    def _is_over(self) -> bool:
        return self.end is not None or self.tail.log_is_whole

    def _restart(self) -> None:
        self._stream = self._body = None
        kept = json.dumps(self.tail.cursor.to_json())
        assert len(kept) < 1024
        self.restarts += 1
        self.tail = self._new_tail(Cursor.from_json(json.loads(kept)))

    def _forward(self) -> None:
        items = self.tail.take()
        for item in items:
            match item:
                case LogLines(lines):
                    self.lines += lines
                case Progress(text):
                    self.progress.append((self.now, text))
                case Notice():
                    self.notices.append(item)
        if items and self.history.slow:
            self.now += self._dice.random() * self.history.slow

    def _do(self, command: commands.Command) -> None:
        if self.now >= self._rewrite_at:
            self._rewrite()
        if isinstance(command, commands.ReadStream):
            self._read_stream(command.seconds)
        elif isinstance(command, commands.ReadWholeLog):
            self._read_text()
        elif isinstance(command, commands.Wait):
            self.now += command.seconds
        elif isinstance(command, commands.GetStatus):
            self._request("status")
            self._answer_status()
        elif isinstance(command, commands.OpenStream):
            self._request(command.source)
            self._open_stream()
        elif isinstance(command, commands.OpenWholeLog):
            self._request("text" if command.lines is None else "last lines")
            self._open_text(command.lines)
        elif isinstance(command, commands.CloseStream):
            assert self._stream is not None, "no stream to close"
            self._stream = None
        elif isinstance(command, commands.CloseWholeLog):
            assert self._body is not None, "no text to close"
            self._body = None
        else:
            self.end = command.end

    def _request(self, kind: str) -> None:
        self.requests.append((self.now, kind))
        self.now += self._dice.random() * INSTANT

    def _chance(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share

    def _answer_status(self) -> None:
        share = self.history.status_fails
        if (self._status_failures < MAX_STATUS_FAILURES or share == 1) and self._chance(share):
            self._status_failures += 1
            self.tail.status.failed(self.now, permanent=False)
            return
        self._status_failures = 0
        if self.now >= self.history.duration:
            ended_ago = max(self.now - self.history.duration - self.history.end_is_inexact, 0.0)
            self.tail.status_received(self.now, "SUCCEEDED", terminal=True, ended_ago=ended_ago)
        else:
            self.tail.status_received(self.now, "PENDING" if self.now < 0.1 else "RUNNING", terminal=False)

    def _open_stream(self) -> None:
        assert self._stream is None, "a second stream"
        if self._chance(self.history.refused):
            self.tail.stream_failed(self.now)
            return
        position = 0
        if self._chance(self.history.from_now):
            position = self._units_written.at(self.now)
            if self.history.chunks == "lines":
                position = self._units.rfind("\n", 0, position) + 1
        self._stream = LiveStream(position, mute=self._chance(self.history.mute))
        self.tail.stream_opened(self.now)

    def _read_stream(self, seconds: float) -> None:
        assert seconds >= 0
        stream = self._stream
        assert stream is not None, "no stream to read"
        self.now += self._dice.random() * INSTANT
        history = self.history
        if stream.completed or self._chance(history.ends):
            self._end_stream()
        elif self._chance(history.too_long):
            self._end_stream(too_long=True)
        elif stream.mute or self._chance(history.stalls):
            stream.mute = True
            self._say_nothing(seconds, float("inf"))
        elif self._chance(history.completes) and not (history.late and self.now > history.duration - SETTLE_SECONDS):
            self.tail.stream_received(self.now, [COMPLETE])
        elif self._chance(history.noise):
            noise = NOISE if history.chunks == "lines" or history.plain else (*NOISE, EMPTY)
            self.tail.stream_received(self.now, [self._dice.choice(noise)])
        elif self._chance(history.junk):
            self.tail.stream_received(self.now, [Event("log", self._dice.choice(JUNK), plain=True)])
        else:
            self._read_log(stream, seconds)

    def _read_log(self, stream: LiveStream, seconds: float) -> None:
        moment = self.now - self.history.lag
        written = self._units_written.at(moment)
        over = moment >= max(self.written.complete_at, self.history.duration)
        messages: list[str] = []
        for _ in range(self._dice.randint(1, 3)):
            messages += self._message(stream, written, over=over)
        if messages:
            plain = self.history.plain
            self.tail.stream_received(self.now, [Event("log", message, plain) for message in messages])
        elif not over or self.history.stays_open:
            next_moment = max(self._units_written.next_after(moment), self.history.duration if not over else 0.0)
            self._say_nothing(seconds, next_moment + self.history.lag)
        elif self.history.says_complete:
            stream.completed = True
            self.tail.stream_received(self.now, [COMPLETE])
        else:
            self._end_stream()

    def _message(self, stream: LiveStream, written: int, *, over: bool) -> list[str]:
        start, units = stream.position, self._units
        if start >= written:
            return []
        if self.history.chunks == "lines":
            end = units.find("\n", start, written)
            if end < 0 and not over:
                return []
            stream.position = written if end < 0 else end + 1
            return [units[start : written if end < 0 else end]]
        if self.history.chunks == "cut":
            end = min(start + self._dice.randint(0, self.history.longest), written)
        else:
            end = start
            for _ in range(self._dice.randint(1, 4)):
                end = units.find("\n", end, written) + 1 or written
        stream.position = end
        return [units[start:end]]

    def _say_nothing(self, seconds: float, until: float) -> None:
        self.now = max(min(self.now + seconds, until, self._rewrite_at), self.now)
        self.tail.stream_idle(self.now, alive=self.history.alive)

    def _end_stream(self, *, too_long: bool = False) -> None:
        self._stream = None
        self.tail.stream_ended(self.now, too_long=too_long)

    def _text_fails(self, share: float) -> bool:
        if self.now >= self.history.duration + self.history.recovers:
            return False
        if self._text_failures >= MAX_TEXT_FAILURES and self.history.text_fails < 1:
            return False
        fails = self._chance(share)
        self._text_failures += fails
        return fails

    def _open_text(self, lines: int | None) -> None:
        assert self._body is None, "the whole log twice"
        if self.history.text_gone or self._text_fails(self.history.text_fails):
            # Of two streams, which are all that is tried instead, none may tell the end.
            is_rejection = self.history.text_gone or not self.history.sources
            self.tail.whole_log_failed(self.now, "Refused.", transient=not is_rejection)
            return
        text = self._text[: self.written.at(self.now)]
        if lines is not None:
            text = "".join(re.findall(r"[^\n]*\n|[^\n]+", text)[-lines:])
        self._body = text, 0
        self.now += self.history.text_delay
        self.tail.whole_log_opened(self.now)

    def _read_text(self) -> None:
        assert self._body is not None, "no text to read"
        text, start = self._body
        if self._text_fails(self.history.text_cut):
            self._body = None
            self.tail.whole_log_failed(self.now, "Cut.")
        elif start < len(text) and not self._text_ended_early and self._chance(self.history.text_ends):
            self._end_text(early=True)
        elif start < len(text):
            end = start + self._dice.randint(1, self.history.text_piece)
            self._body = text, end
            self.tail.whole_log_received(self.now, text[start:end])
        else:
            self._end_text(early=False)

    def _end_text(self, *, early: bool) -> None:
        self._body = None
        self._text_failures = 0
        self._text_ended_early = self._text_ended_early or early
        self.tail.whole_log_ended(self.now, delimited=not self.history.text_ends)


def _stages(history: History) -> list[tuple[float, int]]:
    """Return the times of writes, with the number of characters written by then."""
    length, duration = len(history.text), history.duration
    last = duration + history.late
    if history.growth == "early":
        return [(0.0, -(-length * 3 // 4)), (last, length)]
    if history.growth == "late":
        return [(duration, length // 2), (last, length)]
    steps = max(min(length, 6), 1)
    return [*((duration * n / steps, length * n // steps) for n in range(steps)), (last, length)]
