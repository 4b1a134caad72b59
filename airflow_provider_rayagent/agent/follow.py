"""Drive a tail over the blocking transports."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.agent import jobs, wire
from airflow_provider_rayagent.agent.errors import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentNotFoundError,
    RayAgentPermissionError,
    RayAgentRedirectError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.agent.streams import LogStream, StreamEndedError, WholeLog, open_stream
from airflow_provider_rayagent.logs import commands as do
from airflow_provider_rayagent.logs.commands import End, Notice, TailSettings
from airflow_provider_rayagent.logs.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_rayagent.agent.blocking import BlockingAgent
    from airflow_provider_rayagent.logs.cursor import Cursor

SLICE_SECONDS = 1.0
"""A wait or read is never longer at a stretch, so that a request to stop is seen soon."""

_HOPELESS = (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentPermissionError,
    RayAgentRedirectError,
)


@dataclass(frozen=True)
class JobSeen:
    """The job was seen in another status than before.

    :param details: the job's details as the agent gave them.
    """

    details: Mapping[str, Any]


Item = str | Notice | JobSeen


class Follower:
    """Follow one job: :meth:`items` gives what there is to tell, and then the attributes say how it ended.

    :param deadline: seconds from now after which to give up.
    :param stopped: set by another thread or a signal handler to end the following soon.
    """

    def __init__(
        self,
        agent: BlockingAgent,
        job_id: str,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self.job_id = wire.validate_id(job_id, "job")
        self._clock = clock
        self._stopped = stopped or threading.Event()
        self._tail = Tail(settings, cursor, deadline=None if deadline is None else clock() + deadline)
        self._stream: LogStream | None = None
        self._whole: WholeLog | None = None
        self._news: list[Item] = []
        self.end: End | None = None
        """Why it ended; ``None`` while it goes on, or if it was stopped."""
        self.job: Mapping[str, Any] | None = None
        """The job's details as last seen."""
        self.error: RayAgentError | None = None
        """The last failure to ask for the status, ``None`` after a success."""
        self.messages = 0
        """Messages that the streams brought, replayed ones included."""

    @property
    def cursor(self) -> Cursor:
        """What was forwarded so far."""
        return self._tail.cursor

    @property
    def log_is_whole(self) -> bool:
        """Whether, at the job's end, its log was read to its end."""
        return self._tail.log_is_whole

    def items(self) -> Iterator[list[Item]]:
        """Yield lists of lines, notices and job news until the end; closing the iterator closes every connection."""
        try:
            while self.end is None and not self._stopped.is_set():
                self._step()
                items: list[Item] = [*self._news, *self._tail.take()]
                self._news.clear()
                if items:
                    yield items
        finally:
            self._close_stream()
            self._close_whole()

    def _step(self) -> None:
        command = self._tail.next(self._clock())
        if isinstance(command, do.ReadStream):
            self._read_stream(min(command.seconds, SLICE_SECONDS))
        elif isinstance(command, do.ReadText):
            self._read_whole()
        elif isinstance(command, do.AskStatus):
            self._ask_status()
        elif isinstance(command, do.OpenStream):
            self._open_stream(command.source)
        elif isinstance(command, do.OpenText):
            self._open_whole()
        elif isinstance(command, do.CloseStream):
            self._close_stream()
        elif isinstance(command, do.CloseText):
            self._close_whole()
        elif isinstance(command, do.Wait):
            self._stopped.wait(min(command.seconds, SLICE_SECONDS))
        else:
            self.end = command.end

    def _ask_status(self) -> None:
        try:
            job = self._agent.send(wire.get_job(self.job_id), tries=1)
            status = job.get("status")
            if not isinstance(status, str):
                raise RayAgentResponseError(f"The agent's answer for job {self.job_id} has no status.")
        except RayAgentNotFoundError as error:
            self.error = error
            self._tail.status_missing(self._clock())
        except RayAgentError as error:
            self.error = error
            self._tail.status_failed(self._clock(), hopeless=isinstance(error, _HOPELESS))
        else:
            self.error = None
            if self.job is None or self.job.get("status") != status:
                self._news.append(JobSeen(job))
            self.job = job
            self._tail.status(self._clock(), status, terminal=jobs.has_ended(job))

    def _open_stream(self, source: str) -> None:
        try:
            self._stream = open_stream(self._agent, self.job_id, source)
        except RayAgentError:
            self._tail.stream_failed(self._clock())
        else:
            self._tail.stream_opened(self._clock())

    def _read_stream(self, seconds: float) -> None:
        if self._stream is None:
            raise AssertionError
        try:
            events, alive = self._stream.read(seconds)
        except StreamEndedError:
            self._close_stream()
            self._tail.stream_ended(self._clock())
            return
        if events:
            self.messages += len(events)
            self._tail.stream_events(self._clock(), events)
        else:
            self._tail.stream_silent(self._clock(), alive=alive)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _open_whole(self) -> None:
        try:
            self._whole = WholeLog(self._agent, self.job_id)
        except RayAgentError as error:
            self._tail.text_failed(self._clock(), error.detail, passing=_may_pass(error))
        else:
            self._tail.text_opened(self._clock())

    def _read_whole(self) -> None:
        if self._whole is None:
            raise AssertionError
        try:
            text = self._whole.read()
        except RayAgentError as error:
            self._close_whole()
            self._tail.text_failed(self._clock(), error.detail)
            return
        if text is None:
            delimited = self._whole.delimited
            self._close_whole()
            self._tail.text_ended(self._clock(), delimited=delimited)
        else:
            self._tail.text_chunk(self._clock(), text)

    def _close_whole(self) -> None:
        whole, self._whole = self._whole, None
        if whole is not None:
            whole.close()


def _may_pass(error: RayAgentError) -> bool:
    return not isinstance(error, RayAgentHTTPError) or error.status_code in (401, 403, 408, 429, 502, 503, 504)
