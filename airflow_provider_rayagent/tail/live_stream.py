"""The live log streams of one tail: which is open, which may be opened next, and when one counts as dead."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
    from airflow_provider_rayagent.tail.messages import StreamReading

MAX_SILENCE_SECONDS = 600.0
"""The silence after which a stream is replaced doubles up to this, since a job may be silent for hours."""
REOPEN_SECONDS = 1.0
MAX_PAUSE_SECONDS = 15.0


class ConnectionState(Enum):
    """What the machine knows of a connection that the driver opens."""

    CLOSED = "closed"
    OPEN = "open"
    DONE = "done"
    """Of no more use; the driver is to close it."""


class LiveStream:
    """At most one stream is open at a time.

    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, settings: TailSettings, jitter: Callable[[], float]) -> None:
        self._timeout = settings.silence_timeout
        self._backoff = {source: Backoff(1.0, MAX_PAUSE_SECONDS, jitter) for source in settings.sources}
        self._silence = self._timeout
        self._opened_at = self._alive_at = 0.0
        self.state = ConnectionState.CLOSED
        self.source: StreamSource = "websocket"
        """Of the open stream, or of the last one."""
        self.reading: StreamReading | None = None
        """What is read from the open stream."""
        self.said_at = 0.0
        """The moment at which log text came last, or the stream was opened."""
        self.is_complete = False
        """Whether the stream said that it is complete, which may be early."""

    @property
    def sources(self) -> Collection[StreamSource]:
        """All sources, the preferred one first."""
        return self._backoff.keys()

    @property
    def dead_at(self) -> float:
        """The moment at which the open stream counts as dead, unless something comes."""
        heard = self.reading is not None and self.reading.heard
        return (self._alive_at if heard else self._opened_at) + self._silence

    def due(self, source: StreamSource) -> float:
        """Return the moment at which a source may be opened."""
        return self._backoff[source].due

    def opened(self, now: float, reading: StreamReading) -> None:
        """Note that the driver has opened :attr:`source`."""
        self.state = ConnectionState.OPEN
        self.reading = reading
        self._opened_at = self._alive_at = self.said_at = now
        self.is_complete = False

    def failed(self, now: float) -> None:
        """Note that the driver could not open :attr:`source`."""
        self._backoff[self.source].failed(now)

    def alive(self, now: float, *, with_text: bool = False) -> None:
        """Note that the peer showed itself."""
        self._alive_at = now
        if with_text:
            self.said_at = now

    def advanced(self, now: float) -> None:
        """Note that the stream brought new text."""
        self.text_advanced()
        self._backoff[self.source].succeeded(now)

    def text_advanced(self) -> None:
        """Note that new text came, from wherever: the job is not silent."""
        self._silence = self._timeout

    def lengthen_silence(self) -> None:
        """Let the next stream be silent for longer than the one that counted as dead."""
        self._silence = min(2 * self._silence, MAX_SILENCE_SECONDS)

    def over(self, now: float) -> None:
        """Note that the open stream is of no more use; another one may be opened later."""
        if self.reading is not None and self.reading.advanced:
            self._backoff[self.source].succeeded(now + REOPEN_SECONDS)
        else:
            self._backoff[self.source].failed(now)
        self.done()

    def done(self) -> None:
        """Have the driver close the stream, if one is open."""
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.DONE

    def closed(self) -> None:
        """Note that the driver has closed the stream."""
        self.state, self.reading = ConnectionState.CLOSED, None

    def status_changed(self, now: float) -> None:
        """Note that the job's status changed: a stream that could not be had may be there now."""
        for backoff in self._backoff.values():
            backoff.succeeded(now)

    def service_recovered(self, now: float) -> None:
        """Note that the service answers again."""
        for backoff in self._backoff.values():
            backoff.hasten(now)
