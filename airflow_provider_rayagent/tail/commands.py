"""The commands of a tail to its driver, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.end import End

StreamSource = Literal["websocket", "http"]


@dataclass(frozen=True)
class GetStatus:
    """Get the job's status; then call ``status_received``, ``status.missing`` or ``status.failed``."""


@dataclass(frozen=True)
class OpenStream:
    """Open a live log stream; then call ``stream_opened`` or ``stream_failed``."""

    source: StreamSource


@dataclass(frozen=True)
class ReadStream:
    """Read the stream for up to ``seconds``; then call ``stream_received``, ``stream_idle`` or ``stream_ended``."""

    seconds: float


@dataclass(frozen=True)
class CloseStream:
    """Close the stream; nothing is reported."""


@dataclass(frozen=True)
class OpenWholeLog:
    """Request the whole log; then call ``whole_log_opened`` or ``whole_log_failed``.

    :param lines: request only so many lines at the end of the log; ``None``: all.
    """

    lines: int | None = None


@dataclass(frozen=True)
class ReadWholeLog:
    """Read more of the whole log; then call ``whole_log_received``, ``whole_log_ended`` or ``whole_log_failed``."""


@dataclass(frozen=True)
class CloseWholeLog:
    """Close the response with the whole log; nothing is reported."""


@dataclass(frozen=True)
class Wait:
    """Sleep for ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Finish:
    """The tail has ended."""

    end: End


Command = (
    GetStatus | OpenStream | ReadStream | CloseStream | OpenWholeLog | ReadWholeLog | CloseWholeLog | Wait | Finish
)


@dataclass(frozen=True)
class TailSettings:
    """Settings of a tail; all times are in seconds.

    :param sources: stream protocols to use, in order of preference; the whole log is always the last resort.
    :param poll_interval: interval between two requests for the job's status.
    :param log_interval: interval between two reads of the whole log while no stream is available; ``None``:
        ``poll_interval``, within 1 to 5.
    :param silence_timeout: how long a stream may be silent before it is replaced.
    :param missing_timeout: how long the job may be unknown to the agent, as a queued job is for a while.
    :param start_timeout: how long after the first request the job may be PENDING, or unknown if it was never known.
        ``None``: PENDING without a limit, and unknown for ``missing_timeout``.
    :param unreachable_timeout: how long requests for the status may fail.
    :param has_answered: whether the service has answered an earlier tail, so that a request that it rejects
        permanently is no reason to give up at once.
    :param max_line_length: characters; a longer line is split into pieces.
    :param progress_interval: interval at which to report the state of a line that the job redraws with ``\\r``; only
        the last state of a complete line is forwarded. ``None``: ``\\r`` has no special meaning.
    :param forward: whether to read the log.
    :param last_lines: whether the last lines of the log can be read alone.
    :param once: check the status and read the whole log once, then finish.
    :param unfinished: with ``once``, whether to forward the last line of a running job even if it has no newline yet.
    """

    sources: tuple[StreamSource, ...] = ("websocket", "http")
    poll_interval: float = 5.0
    log_interval: float | None = None
    silence_timeout: float = 30.0
    missing_timeout: float = 60.0
    start_timeout: float | None = None
    unreachable_timeout: float = 300.0
    has_answered: bool = False
    max_line_length: int = 1_000_000
    progress_interval: float | None = None
    forward: bool = True
    last_lines: bool = False
    once: bool = False
    unfinished: bool = False
