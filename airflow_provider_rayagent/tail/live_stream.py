"""The live log stream of a tail: which source is open, which may be opened when, and when a stream times out."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_rayagent.tail.backoff import Backoff
from airflow_provider_rayagent.tail.commands import OpenStream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
    from airflow_provider_rayagent.tail.stream_reader import StreamReader

MAX_SILENCE_SECONDS = 600.0
"""The silence timeout doubles up to this, since a job may be silent for hours."""
TEXT_SILENCE_SECONDS = 600.0
"""After this time without text a stream is replaced, and after twice as long the next time: one whose log was rotated
is silent, or goes on in the middle of the new log, and does not say so."""
REOPEN_SECONDS = 1.0
MAX_PAUSE_SECONDS = 15.0


class ConnectionState(Enum):
    """State of a connection that the driver opens."""

    CLOSED = "closed"
    OPEN = "open"
    CLOSING = "closing"
    """No longer needed; the driver is to close it."""


class LiveStream:
    """The stream of a tail; at most one is open at a time.

    :param jitter: returns a number in [0, 1).
    """

    def __init__(self, settings: TailSettings, jitter: Callable[[], float]) -> None:
        self._timeout = settings.silence_timeout
        self._backoff = {source: Backoff(1.0, MAX_PAUSE_SECONDS, jitter) for source in settings.sources}
        self._silence_timeout, self._text_timeout = self._timeout, TEXT_SILENCE_SECONDS
        self._opened_at = self._last_active_at = 0.0
        self.state = ConnectionState.CLOSED
        self.source: StreamSource = "websocket"
        """Source of the open stream, or of the last one."""
        self.reader: StreamReader | None = None
        """Reads the open stream."""
        self.last_text_at = 0.0
        """When log text was last received, or the stream was opened."""
        self.completed_at: float | None = None
        """When the stream sent ``complete``; ``None``: it did not."""

    @property
    def sources(self) -> Collection[StreamSource]:
        """All sources, in order of preference."""
        return self._backoff.keys()

    @property
    def is_complete(self) -> bool:
        """Whether the stream sent ``complete``, which may be premature."""
        return self.completed_at is not None

    @property
    def timeout_at(self) -> float:
        """When the open stream times out, unless data arrives."""
        # Before the first text, pongs do not count: a stream that only answers pings would never be replaced.
        has_text = self.reader is not None and self.reader.has_text
        silent_at = (self._last_active_at if has_text else self._opened_at) + self._silence_timeout
        return min(silent_at, self.last_text_at + self._text_timeout)

    def due(self, source: StreamSource) -> float:
        """Return when a source may be opened."""
        return self._backoff[source].due

    def open(self, source: StreamSource) -> OpenStream:
        """Return the command to open a source."""
        self.source = source
        return OpenStream(source)

    def opened(self, now: float, reader: StreamReader) -> None:
        """Note that the driver has opened :attr:`source`."""
        self.state = ConnectionState.OPEN
        self.reader = reader
        self._opened_at = self._last_active_at = self.last_text_at = now
        self.completed_at = None

    def failed(self, now: float) -> None:
        """Note that the driver could not open :attr:`source`."""
        self._backoff[self.source].record_failure(now)

    def peer_active(self, now: float, *, with_text: bool = False) -> None:
        """Note that the peer is alive."""
        self._last_active_at = now
        if with_text:
            self.last_text_at = now

    def advanced(self, now: float) -> None:
        """Note that the stream delivered new text."""
        self.text_advanced()
        self._backoff[self.source].reset(now)

    def text_advanced(self) -> None:
        """Note that new text was received, from any source: the job is not silent."""
        self._silence_timeout, self._text_timeout = self._timeout, TEXT_SILENCE_SECONDS

    def extend_silence_timeout(self) -> None:
        """Double the timeouts for the next stream, after one has timed out."""
        self._text_timeout *= 2
        self._silence_timeout = min(2 * self._silence_timeout, MAX_SILENCE_SECONDS)

    def finished(self, now: float) -> None:
        """Note that the open stream is no longer needed; another one may be opened later."""
        if self.reader is not None and self.reader.advanced:
            # Not a failure: a proxy may end every stream soon, and the lines must not come later and later for that.
            self._backoff[self.source].reset(now + REOPEN_SECONDS)
        else:
            self._backoff[self.source].record_failure(now)
        self.request_close()

    def request_close(self) -> None:
        """Make the driver close the stream, if one is open."""
        if self.state is ConnectionState.OPEN:
            self.state = ConnectionState.CLOSING

    def closed(self) -> None:
        """Note that the driver has closed the stream."""
        self.state, self.reader = ConnectionState.CLOSED, None

    def status_changed(self, now: float) -> None:
        """Note that the job's status has changed: a stream that failed to open may be available now."""
        for backoff in self._backoff.values():
            backoff.reset(now)

    def service_recovered(self, now: float) -> None:
        """Note that the service responds again."""
        for backoff in self._backoff.values():
            backoff.expedite(now)
