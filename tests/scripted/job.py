"""What the agent serves: jobs whose text and status change on cue, and Serve applications."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from tests.scripted.actions import Step
    from tests.scripted.exchange import Action

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})

Text = str | Callable[[], Iterable[str]]


@dataclass(eq=False)
class Job:
    """A job of the script.

    Every method may be called from any thread and from a play or timeline.

    :param text: the log so far; or a callable that gives it anew in chunks, for logs too long to hold.
    :param status: the status so far.
    :param job_id: the id in the paths (Ray's submission id).
    :param timeline: actions that change the job by themselves (``Sleep``, ``Grow``, ``SetStatus``,
        ``WaitFor``, ``Do`` …), begun by the first request about the job.
    :param polls: statuses that the first requests for the job's details see, one each; the last stays.
    :param ws: what the n-th WebSocket connection meets; the last repeats; empty: everything served well.
    :param sse: the same for SSE.
    :param full: the same for the full text.
    :param text_as_json: serve the full text as a JSON string.
    :param message: Ray's message; default one that fits the status.
    :param stop_delay: seconds from a stop call to STOPPED.
    :param type: ``DRIVER`` has no submission id, and its logs and stop answer 400.
    :param details: more or other fields of the details.
    """

    text: Text = ""
    status: str = "SUCCEEDED"
    job_id: str = "j1"
    timeline: Sequence[Action] = ()
    polls: Iterable[str] = ()
    ws: Sequence[Step] = ()
    sse: Sequence[Step] = ()
    full: Sequence[Step] = ()
    text_as_json: bool = False
    message: str | None = None
    entrypoint: str = "python train.py"
    stop_delay: float = 0.0
    type: str = "SUBMISSION"
    details: Mapping[str, Any] = field(default_factory=dict)
    started: int = field(default_factory=lambda: int(time.time() * 1000))
    ended: int | None = None
    over_at: float | None = None
    """``time.monotonic()`` of the end."""
    grown_at: float = float("-inf")
    """``time.monotonic()`` of the last growth of the log."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: list[Callable[[], object]] = []
        self._grown = ""
        self._source_length: int | None = None
        self._polls: Iterator[str] = iter(self.polls)
        self.playing: asyncio.Task[None] | None = None
        """What plays the timeline. A job that a later one with its id has replaced has its own."""
        self.rewritten = 0
        self.stop_calls = 0

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    def grow(self, text: str) -> None:
        """Write more text to the log."""
        with self._lock:
            if isinstance(self.text, str):
                self.text += text
            else:
                self._grown += text
            self.grown_at = time.monotonic()
        self._tell()

    def rewrite(self, text: str) -> None:
        """Put another text in the log's place, as a rotation or a truncation does."""
        with self._lock:
            self.text, self._grown = text, ""
            self.rewritten += 1
        self._tell()

    def set_status(self, status: str, message: str | None = None) -> None:
        """Change the status, and the message where one is given."""
        with self._lock:
            self.status = status
            if message is not None:
                self.message = message
            if self.is_over and self.ended is None:
                self.ended = int(time.time() * 1000)
                self.over_at = time.monotonic()
        self._tell()

    def poll(self) -> str:
        """Return the status for one request of the details."""
        status = next(self._polls, None)
        if status is not None:
            self.set_status(status)
        return self.status

    def read(self, offset: int) -> Iterator[str]:
        """Yield the text so far from this character on."""
        text = self.text
        if isinstance(text, str):
            yield text[offset:]
            return
        at = 0
        if self._source_length is None or offset < self._source_length:
            for chunk in text():
                if at + len(chunk) > offset:
                    yield chunk[max(offset - at, 0) :]
                at += len(chunk)
            self._source_length = at
        yield self._grown[max(offset - self._source_length, 0) :]

    def truth(self) -> str:
        """Return the text so far."""
        return "".join(self.read(0))

    def subscribe(self, tell: Callable[[], object]) -> Callable[[], None]:
        """Have ``tell`` called at every change; returns what ends that."""
        with self._lock:
            self._changed.append(tell)
        return lambda: self._changed.remove(tell)

    def as_details(self) -> dict[str, Any]:
        """Return the job as Ray's JobDetails has it."""
        driver = self.type == "DRIVER"
        over = self.is_over
        failed = self.status == "FAILED"
        return {
            "type": self.type,
            "job_id": self.job_id if driver else (None if self.status == "PENDING" else "01000000"),
            "submission_id": None if driver else self.job_id,
            "driver_info": {"id": "01000000", "node_ip_address": "127.0.0.1", "pid": "4242"},
            "status": self.status,
            "entrypoint": self.entrypoint,
            "message": self.message if self.message is not None else _MESSAGES.get(self.status, ""),
            "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR" if failed else None,
            "start_time": self.started,
            "end_time": (self.ended or self.started + 1000) if over else None,
            "metadata": {},
            "runtime_env": {},
            "driver_agent_http_address": "http://127.0.0.1:52365",
            "driver_node_id": "ab" * 28,
            "driver_exit_code": {"SUCCEEDED": 0, "FAILED": 1}.get(self.status),
            **self.details,
        }

    def _tell(self) -> None:
        for tell in tuple(self._changed):
            tell()


_MESSAGES = {
    "PENDING": "Job has not started yet. It may be waiting for resources or its runtime environment.",
    "RUNNING": "Job is currently running.",
    "SUCCEEDED": "Job finished successfully.",
    "STOPPED": "Job was intentionally stopped.",
    "FAILED": "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n",
}


@dataclass(eq=False)
class Application:
    """A Serve application.

    :param status: as Ray names it.
    :param gone_after: seconds from DELETE, when it turns DELETING, until it is gone; ``None``: never.
    """

    name: str = "app"
    status: str = "RUNNING"
    gone_after: float | None = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    deleted: float | None = None

    @property
    def is_gone(self) -> bool:
        return (
            self.deleted is not None
            and self.gone_after is not None
            and time.monotonic() - self.deleted >= self.gone_after
        )

    def delete(self) -> None:
        """Begin to delete it."""
        if self.deleted is None:
            self.deleted = time.monotonic()

    def as_details(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status if self.deleted is None else "DELETING",
            "route_prefix": f"/{self.name}",
            "message": "",
            "deployments": {},
            **self.details,
        }
