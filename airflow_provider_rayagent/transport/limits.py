"""Limits for the total time and size of a response body. Pure.

The read timeout of the libraries limits each read, so that a body that arrives byte by byte never exceeds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.stream.bodies import MAX_LOG_BYTES

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call


READ_BYTES = 65_536
"""Most bytes of one read."""


class Limit(NamedTuple):
    """Limits of one body.

    :param seconds: total time to wait for data; the time between two reads does not count.
    :param bytes: size of the decompressed content.
    :param bytes_per_second: number of received bytes that add one second to the limit; ``None``: a fixed limit.
    """

    seconds: float
    bytes: int
    bytes_per_second: int | None = None


ANSWER = Limit(60.0, 64_000_000)
"""The response to a call. The largest are lists of 10,000 jobs or tasks, Ray's maximum: about 20 MB."""
PREPARATION_SECONDS = 60.0
"""For what is read before the first request of a client: CAs, certificates and the environment."""
ERROR = Limit(3.0, 65_536)
"""The body of an error status. It is only shown in a message, so that the part received in this time is enough."""
LOG = Limit(60.0, MAX_LOG_BYTES, bytes_per_second=10_000)
"""A whole log, which is processed in chunks. Ray's dashboard ends such a transfer after 300 seconds (the default total
timeout of ``aiohttp.ClientSession``)."""
HELD_LOG_CHARS = 250_000_000
"""Characters of a whole log that is returned as one string."""


SEND_BYTES_PER_SECOND = 10_000
"""Slowest rate at which the body of a request is sent."""


def exchange_seconds(call: Call, read_timeout: float) -> float:
    """Return the maximum seconds from a request to the head of its response, when each read has its own timeout."""
    sending = len(call.content) / SEND_BYTES_PER_SECOND if call.content is not None else 0.0
    return sending + (call.read_timeout or read_timeout) + ANSWER.seconds


class TooSlowError(TimeoutError):
    """A body was not complete in time.

    :param size: number of bytes received.
    :param seconds: the time limit.
    """

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(f"only {size} bytes in {seconds:.0f} seconds")


class WaitBudget:
    """The time that is left to receive a body.

    :param extra: seconds in addition to those of the limit.
    """

    def __init__(self, limit: Limit, extra: float = 0.0) -> None:
        self._limit = limit
        self._extra = extra
        self._waited = 0.0
        self._bytes = 0

    def spend(self, seconds: float, received: int) -> None:
        """Account for one wait, and the bytes that it received."""
        self._waited += seconds
        self._bytes += received

    @property
    def left(self) -> float:
        """The remaining seconds, greater than 0.

        :raises TooSlowError: if no time is left.
        """
        left = self._seconds - self._waited
        if left <= 0:
            raise self.exceeded
        return left

    @property
    def exceeded(self) -> TooSlowError:
        """The error to raise when no time is left."""
        return TooSlowError(self._bytes, self._seconds)

    @property
    def _seconds(self) -> float:
        rate = self._limit.bytes_per_second
        return self._limit.seconds + self._extra + (self._bytes / rate if rate else 0.0)


class Body:
    """Collects the body of a response, up to its limit."""

    def __init__(self, call: Call, status: int) -> None:
        self.is_error = not 200 <= status < 300
        """Whether this is the body of an error status, of which a part is enough."""
        limit = ANSWER if call.max_bytes is None else ANSWER._replace(bytes=call.max_bytes)
        self.limit = ERROR if self.is_error else limit
        self._where = f"{call.name} answered {status}"
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def too_slow(self) -> TooSlowError:
        """The error to raise when the time limit is exceeded."""
        return TooSlowError(self._size, self.limit.seconds)

    def add(self, chunk: bytes) -> bool:
        """Add a chunk. Return whether to continue reading.

        :raises RayAgentResponseError: if a response is too large.
        """
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size <= self.limit.bytes:
            return True
        if self.is_error:
            return False
        raise RayAgentResponseError(f"{self._where} with more than {self.limit.bytes / 1_000_000:g} MB.")

    @property
    def content(self) -> bytes:
        """The body received so far, up to the limit."""
        return b"".join(self._chunks)[: self.limit.bytes]
