"""Limits for reading the rest of an ended job's log: the whole log or, if that fails, a stream. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_rayagent.tail.commands import StreamSource

SETTLE_SECONDS = 1.0
"""How long after the job's end the last reading of the whole log begins, since lines may be written after the end;
nothing is awaited if a stream was complete so short a time before the end was seen, and the whole log has no more."""
LARGE_LOG_CHARS = 32_000_000
"""A longer log is read once, to save traffic, unless its response was incomplete."""
# Ends the readings of a log that is longer at each, such as one that a detached process still writes to.
MAX_READS = 6
MAX_FAILURES = 3
"""Rejected requests for the whole log after which a stream is tried instead."""
FAILING_SECONDS = 60.0
"""How long after the job's end the log is requested while the agent is unreachable, or if there is no other way; and
how long it may arrive if the deadline has passed."""
MAX_STREAMS = 2
STREAM_SECONDS = 8.0
"""How long a stream may be silent after the job's end; Ray's own lags behind the status by 3 to 6 seconds."""


def first_read_at(now: float, settled_at: float, chars: int) -> float:
    """Return when to begin the first reading of the whole log after the job's end.

    That is now, and it seldom brings less than all. Only a large log is not worth a second reading.

    :param settled_at: when nothing more is written.
    :param chars: length of the log, as far as it is known.
    """
    return max(now, settled_at) if chars > LARGE_LOG_CHARS else now


class DrainAttempts:
    """Counts the attempts to read the rest of the log since the job's end."""

    def __init__(self) -> None:
        self._reads = self._failures = self._rejections = self._refusals = self._streams = 0
        self._chars = -1
        self._is_late = self._had_stream = False

    def is_log_next(self, sources: Collection[StreamSource]) -> bool:
        """Whether to request the whole log, instead of trying a stream or, if none may be tried, giving up.

        :param sources: the streams that may be used.
        """
        if self._rejections < MAX_FAILURES and not (self._is_late and self._failures >= MAX_FAILURES):
            return True
        is_over = self._is_late or self._refusals >= MAX_FAILURES
        # What a stream has brought last, even half a line, is the end.
        return not (is_over or self._had_stream or (sources and not self.is_out_of_streams))

    @property
    def is_out_of_streams(self) -> bool:
        """Whether no further stream may be tried."""
        return self._streams >= MAX_STREAMS

    def stream_tried(self, *, was_open: bool) -> None:
        """Count a stream that ended or could not be opened."""
        self._streams += 1
        self._had_stream = self._had_stream or was_open

    def log_failed(self, seconds: float, *, transient: bool, permanent: bool) -> None:
        """Count a failure to read the whole log.

        :param seconds: time since the job's end.
        :param transient: whether it says nothing about the log, so that a stream would most likely fail too.
        :param permanent: whether no later request can succeed.
        """
        self._failures += 1
        self._refusals += permanent
        self._rejections += not transient
        self._is_late = seconds >= FAILING_SECONDS

    def log_read(self, chars: int, *, settled: bool, known: bool, delimited: bool) -> bool:
        """Count a complete read of the whole log. Return whether no further read is needed.

        :param chars: length of the log.
        :param settled: whether the read began late enough.
        :param known: whether the log is what was forwarded.
        :param delimited: whether the response declares its end, so that a truncated one is detected.
        """
        self._reads += 1
        # Enough even if neither response declares its end: two that were cut would hardly have the same length.
        is_same = chars == self._chars
        self._chars = chars
        is_certain = delimited and settled and (known or chars > LARGE_LOG_CHARS)
        return is_same or is_certain or self._reads >= MAX_READS
