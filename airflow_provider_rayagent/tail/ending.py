"""How long the rest of an ended job's log is tried for: the whole log first and, if that is refused, a stream. Pure."""

from __future__ import annotations

SETTLE_SECONDS = 1.0
"""The whole log is read again this long after the job's end, in case its last lines came after its status."""
LARGE_LOG_CHARS = 32_000_000
"""A longer log is not read a second time for that, if its answer was whole."""
MAX_READS = 6
MAX_FAILURES = 3
"""Refusals of the whole log before a stream is tried instead."""
UNREACHABLE_SECONDS = 60.0
"""How long after the job's end its log is asked for while the agent is not to be reached."""
MAX_STREAMS = 2
STREAM_SECONDS = 8.0
"""How long a stream may stay silent after the job's end; Ray's own lags the status by 3 to 6 seconds."""


class Ending:
    """What was tried since the job's end, and with what outcome."""

    def __init__(self) -> None:
        self._reads = self._failures = self._streams = 0
        self._chars = -1

    @property
    def is_text_refused(self) -> bool:
        """Whether the whole log failed so often that a stream is to be tried instead."""
        return self._failures >= MAX_FAILURES

    @property
    def is_last_stream(self) -> bool:
        """Whether no further stream is to be tried."""
        return self._streams >= MAX_STREAMS

    def stream_tried(self) -> None:
        """Take note that a stream could not be opened, or has ended."""
        self._streams += 1

    def text_failed(self, seconds: float, *, transient: bool) -> None:
        """Take note that the whole log could not be had.

        :param seconds: since the job's end.
        :param transient: whether another try may well do better; then there are more tries.
        """
        if not transient or seconds >= UNREACHABLE_SECONDS:
            self._failures += 1

    def text_read(self, chars: int, *, delimited: bool) -> bool:
        """Take note that the whole log was read. Return whether it was the last time.

        :param delimited: whether the answer itself said where it ends.
        """
        self._reads += 1
        settled = chars == self._chars
        self._chars = chars
        return settled or (delimited and chars > LARGE_LOG_CHARS) or self._reads >= MAX_READS
