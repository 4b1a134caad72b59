"""What a tail tells its driver to do, and how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.end import End

StreamSource = Literal["websocket", "http"]


@dataclass(frozen=True)
class AskStatus:
    """Ask the job's status; then call ``status_received``, ``status_missing`` or ``status_failed``."""


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
    """Close the stream; no answer."""


@dataclass(frozen=True)
class OpenWholeLog:
    """Ask for the whole log; then call ``whole_log_opened`` or ``whole_log_failed``."""


@dataclass(frozen=True)
class ReadWholeLog:
    """Read more of the whole log; then call ``whole_log_received``, ``whole_log_ended`` or ``whole_log_failed``."""


@dataclass(frozen=True)
class CloseWholeLog:
    """Close the answer with the whole log; no answer."""


@dataclass(frozen=True)
class Wait:
    """Do nothing for ``seconds``."""

    seconds: float


@dataclass(frozen=True)
class Finish:
    """The tail has ended."""

    end: End


Command = (
    AskStatus | OpenStream | ReadStream | CloseStream | OpenWholeLog | ReadWholeLog | CloseWholeLog | Wait | Finish
)


@dataclass(frozen=True)
class TailSettings:
    """How a tail goes about its work; all times in seconds.

    :param sources: stream protocols to use, the preferred one first; the whole log is always the last resort.
    :param poll_interval: between two questions for the job's status.
    :param log_interval: between two readings of the whole log while no stream can be had; ``None``: ``poll_interval``,
        within 1 to 5.
    :param silence_timeout: a stream that says nothing for so long is taken for dead.
    :param missing_timeout: how long the agent may not know the job (a queued job is unknown for a while).
    :param start_timeout: how long, from the first question on, a job that was never known may stay unknown, or be
        PENDING; ``None``: PENDING for ever, and unknown for ``missing_timeout``.
    :param unreachable_timeout: how long the status may be unreadable.
    :param max_line_length: characters; a longer line is given out in pieces.
    :param progress_interval: seconds between two states that are told of a line that the job draws again and again,
        each time after ``\\r``; when such a line is complete it is given out in its last state. ``None``: ``\\r`` is a
        character like any other, and nothing is told before the line is complete.
    :param forward: whether the log is read at all.
    :param once: look once (status, then the whole log) and end.
    """

    sources: tuple[StreamSource, ...] = ("websocket", "http")
    poll_interval: float = 5.0
    log_interval: float | None = None
    silence_timeout: float = 30.0
    missing_timeout: float = 60.0
    start_timeout: float | None = None
    unreachable_timeout: float = 300.0
    max_line_length: int = 1_000_000
    progress_interval: float | None = None
    forward: bool = True
    once: bool = False
