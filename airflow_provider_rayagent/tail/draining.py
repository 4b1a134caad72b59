"""Limits for reading the rest of an ended job's log: the whole log or, if that fails, a stream. Pure."""

from __future__ import annotations

SETTLE_SECONDS = 1.0
"""How long after the job's end the last reading of the whole log begins, since lines may be written after the end."""
LARGE_LOG_CHARS = 32_000_000
"""A longer log is not read again if its response was complete."""
MAX_READS = 6
MAX_FAILURES = 3
"""Rejected requests for the whole log after which a stream is tried instead."""
UNREACHABLE_SECONDS = 60.0
"""How long after the job's end the log is requested while the agent is unreachable."""
MAX_STREAMS = 2
STREAM_SECONDS = 8.0
"""How long a stream may be silent after the job's end; Ray's own lags behind the status by 3 to 6 seconds."""


class DrainAttempts:
    """Counts the attempts to read the rest of the log since the job's end."""

    def __init__(self) -> None:
        self._reads = self._failures = self._streams = 0
        self._chars = -1

    @property
    def is_log_unavailable(self) -> bool:
        """Whether the whole log failed so often that a stream is to be tried instead."""
        return self._failures >= MAX_FAILURES

    @property
    def is_out_of_streams(self) -> bool:
        """Whether no further stream may be tried."""
        return self._streams >= MAX_STREAMS

    def stream_tried(self) -> None:
        """Count a stream that ended or could not be opened."""
        self._streams += 1

    def log_failed(self, seconds: float, *, transient: bool) -> None:
        """Count a failure to read the whole log.

        :param seconds: time since the job's end.
        :param transient: whether a retry may succeed; such failures count only after :data:`UNREACHABLE_SECONDS`.
        """
        if not transient or seconds >= UNREACHABLE_SECONDS:
            self._failures += 1

    def log_read(self, chars: int, *, has_settled: bool, delimited: bool) -> bool:
        """Count a complete read of the whole log. Return whether no further read is needed.

        :param chars: length of the log.
        :param has_settled: whether it was read late enough, and is what was forwarded.
        :param delimited: whether the response declares its end, so that a truncated one is detected.
        """
        self._reads += 1
        is_same = chars == self._chars
        self._chars = chars
        is_certain = delimited and (has_settled or chars > LARGE_LOG_CHARS)
        return is_same or is_certain or self._reads >= MAX_READS
