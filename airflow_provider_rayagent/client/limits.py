"""How long the body of an answer may take in all, and how many bytes it may have. Pure.

The read timeout of the libraries bounds the wait between two reads only: a body that comes byte by byte never meets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.client.errors import RayAgentResponseError
from airflow_provider_rayagent.stream.bodies import MAX_LOG_BYTES

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.call import Call


class Limit(NamedTuple):
    """The bounds of one body.

    :param seconds: spent waiting for its bytes, added up; what the reader does between two reads does not count.
    :param bytes: of its content, decompressed.
    :param bytes_per_second: every so many bytes received add one second; ``None``: the time is fixed.
    """

    seconds: float
    bytes: int
    bytes_per_second: int | None = None


ANSWER = Limit(60.0, 64_000_000)
"""The answer to a call. The longest are lists of 10,000 jobs or tasks, the most that Ray gives: about 20 MB."""
ERROR = Limit(3.0, 65_536)
"""The body of an error status. The status decides; the body is only shown, as far as it came in this time."""
LOG = Limit(60.0, MAX_LOG_BYTES, bytes_per_second=10_000)
"""A whole log, which is handled piece by piece. Ray's dashboard itself ends such a transfer after 300 seconds (the
default total timeout of an ``aiohttp.ClientSession``)."""
HELD_LOG_CHARS = 250_000_000
"""Characters of a whole log that is returned as one string."""


class TooSlowError(TimeoutError):
    """A body did not come to its end in time.

    :param size: bytes that came.
    :param seconds: the time it had.
    """

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(f"{size} bytes in {seconds:.0f} seconds, and no end")


class WaitBudget:
    """How much longer the rest of a body may take.

    :param more: seconds on top of the limit's.
    """

    def __init__(self, limit: Limit, more: float = 0.0) -> None:
        self._limit = limit
        self._more = more
        self._waited = 0.0
        self._bytes = 0

    def spend(self, seconds: float, received: int) -> None:
        """Take note of one wait, and of the bytes that it brought."""
        self._waited += seconds
        self._bytes += received

    @property
    def left(self) -> float:
        """The seconds left, more than 0.

        :raises TooSlowError: if none are left.
        """
        left = self._seconds - self._waited
        if left <= 0:
            raise self.exceeded
        return left

    @property
    def exceeded(self) -> TooSlowError:
        """The error to raise when no seconds are left."""
        return TooSlowError(self._bytes, self._seconds)

    @property
    def _seconds(self) -> float:
        rate = self._limit.bytes_per_second
        return self._limit.seconds + self._more + (self._bytes / rate if rate else 0.0)


class Body:
    """Collects the body of an answer, up to its limit."""

    def __init__(self, call: Call, status: int) -> None:
        self.is_error = not 200 <= status < 300
        """Whether a part of the body is enough."""
        self.limit = ERROR if self.is_error else ANSWER
        self._where = f"{call.name} answered {status}"
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def too_slow(self) -> TooSlowError:
        """The error to raise when its time is over."""
        return TooSlowError(self._size, self.limit.seconds)

    def add(self, piece: bytes) -> bool:
        """Take a piece. Return whether more is wanted.

        :raises RayAgentResponseError: if an answer is too long.
        """
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size <= self.limit.bytes:
            return True
        if self.is_error:
            return False
        raise RayAgentResponseError(f"{self._where} with more than {self.limit.bytes // 1_000_000} MB.")

    @property
    def content(self) -> bytes:
        """What was received."""
        return b"".join(self._pieces)[: self.limit.bytes]
