"""Streams that may not bring the job's log as it is, until the whole log has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource

MAX_FAILURES = 6
"""Failures of the whole log in a row before a suspect stream is believed."""
LASTING_SECONDS = 60.0
"""How long these failures must have lasted, unless they are final."""


Suspicion = Literal["foreign", "odd", "too long"]
"""Why a stream is suspect: it replays another text than was forwarded, it mixes messages in a way that leaves open
which of them are of the log, or it has a message that is too long to be held."""


class SuspectStreams:
    """Streams that are suspect, and why. The whole log decides; it is read instead of the stream."""

    def __init__(self) -> None:
        self.sources: set[StreamSource] = set()
        """The sources that are not to be used."""
        self._since = 0.0
        self._failures = 0
        self._plain: bool | None = None
        self._why: Suspicion = "foreign"
        self._odd_is_log = False

    def new_stream(self) -> None:
        """Take note that a stream begins."""
        self._plain = None

    def is_odd(self, event: Event) -> bool:
        """Whether an event leaves open what is of the log: plain text among JSON events, or the reverse."""
        if event.kind == "log":
            if self._plain is None:
                self._plain = event.plain
            return event.plain is not self._plain and not self._odd_is_log
        return event.kind == "other" and self._plain is True and not self._odd_is_log

    def add(self, source: StreamSource, now: float, why: Suspicion) -> None:
        """Use ``source`` no more."""
        if not self.sources:
            self._since = now
        self.sources.add(source)
        self._why = why

    def text_read(self) -> None:
        """Take note that the whole log was read."""
        self._failures = 0

    def text_failed(self, now: float, *, transient: bool) -> bool:
        """Take the failure of the whole log. Return whether the stream is believed now: another log is there.

        After many failures the streams are used again, as far as they go.
        """
        if not self.sources:
            return False
        self._failures += 1
        if self._failures < MAX_FAILURES or (transient and now < self._since + LASTING_SECONDS):
            return False
        if self._why == "foreign":
            return True
        self._odd_is_log = self._odd_is_log or self._why == "odd"
        self.clear()
        return False

    def clear(self) -> None:
        """Have no doubts."""
        self.sources.clear()
        self._failures = 0
