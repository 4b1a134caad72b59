"""Streams whose text may differ from the job's log, which the whole log has to settle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource

MAX_FAILURES = 6
"""Consecutive failures to read the whole log before a suspect stream is trusted."""
PERSISTENT_SECONDS = 60.0
"""How long these failures must persist, unless they are permanent."""


Suspicion = Literal["foreign", "unclear", "too long"]
"""Why a stream is suspect: its text differs from what was forwarded, it mixes plain text and JSON events so that it is
unclear which messages are part of the log, or it has a message that is too long to hold in memory."""


class StreamBatch(NamedTuple):
    """What the events of a stream say.

    :param messages: parts of the log.
    :param errors: errors that the agent reports.
    :param is_complete: whether the stream said that it is complete.
    :param is_unclear: whether it is unclear which of the further events are parts of the log.
    """

    messages: list[str]
    errors: list[str]
    is_complete: bool = False
    is_unclear: bool = False

    @property
    def has_text(self) -> bool:
        """Whether any message has text."""
        return any(self.messages)


class SuspectStreams:
    """The suspect streams. The whole log is read instead of them."""

    def __init__(self) -> None:
        self.sources: set[StreamSource] = set()
        """Stream sources that must not be used."""
        self._since = 0.0
        self._failures = 0
        self._plain: bool | None = None
        self._why: Suspicion = "foreign"
        self._unclear_is_log = False

    def new_stream(self) -> None:
        """Note that a new stream was opened."""
        self._plain = None

    def sort(self, events: Iterable[Event]) -> StreamBatch:
        """Return what events of the open stream say, up to its end or the first one that is unclear."""
        batch = StreamBatch([], [])
        for event in events:
            # Plain text among JSON events, or vice versa.
            if event.kind == "log":
                if self._plain is None:
                    self._plain = event.plain
                is_unclear = event.plain is not self._plain
            else:
                # In a stream of plain text, it may be a line that the job has printed as JSON.
                is_unclear = event.kind == "other" and self._plain is True
            if is_unclear and not self._unclear_is_log:
                # The events after it are dropped: the stream is closed, and the whole log has their text.
                return batch._replace(is_unclear=True)
            if event.kind == "log":
                batch.messages.append(event.message)
            elif event.kind == "complete":
                return batch._replace(is_complete=True)
            elif event.kind == "error":
                batch.errors.append(event.message)
        return batch

    def add(self, source: StreamSource, now: float, why: Suspicion) -> None:
        """Stop using ``source``."""
        if not self.sources:
            self._since = now
        self.sources.add(source)
        self._why = why

    def log_read(self) -> None:
        """Note that the whole log was read."""
        self._failures = 0

    def log_failed(self, now: float, *, transient: bool) -> bool:
        """Count a failure to read the whole log. Return whether to trust the stream that the log was rewritten.

        After many failures the streams are used again.
        """
        if not self.sources:
            return False
        self._failures += 1
        if self._failures < MAX_FAILURES or (transient and now < self._since + PERSISTENT_SECONDS):
            return False
        if self._why == "foreign":
            return True
        self._unclear_is_log = self._unclear_is_log or self._why == "unclear"
        self.clear()
        return False

    def clear(self) -> None:
        """Trust all streams again."""
        self.sources.clear()
        self._failures = 0
