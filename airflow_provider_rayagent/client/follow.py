"""Drive a tail over the blocking transports."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.following import SLICE_SECONDS, Following
from airflow_provider_rayagent.client.logstreams import StreamEndedError
from airflow_provider_rayagent.client.streams import LogStream, WholeLog, open_stream
from airflow_provider_rayagent.tail import commands as do

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from airflow_provider_rayagent.client.blocking import BlockingAgent
    from airflow_provider_rayagent.client.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item


class Follower(Following):
    """Follow one job: :meth:`items` gives what there is to tell, and then the attributes say how it ended.

    :param deadline: seconds from now after which to give up.
    :param stopped: set by another thread or a signal handler to end the following soon.
    """

    def __init__(
        self,
        agent: BlockingAgent,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        redact = agent.config.redact
        super().__init__(job_id, settings, cursor=cursor, deadline=deadline, clock=clock, redact=redact)
        self._agent = agent
        self._stopped = stopped or threading.Event()
        self._stream: LogStream | None = None
        self._whole: WholeLog | None = None

    def items(self) -> Generator[list[Item], None, None]:
        """Yield lists, empty ones too, of lines, notices and job news, until the end; closing it closes all."""
        try:
            while self.end is None and not self._stopped.is_set():
                self._step()
                yield self.take()
        finally:
            try:
                self._close_stream()
            finally:
                self._close_whole()

    def _step(self) -> None:
        command = self.tail.next(self.clock())
        if isinstance(command, do.ReadStream):
            self._read_stream(min(command.seconds, SLICE_SECONDS))
        elif isinstance(command, do.ReadWholeLog):
            self._read_whole()
        elif isinstance(command, do.AskStatus):
            self._ask_status()
        elif isinstance(command, do.OpenStream):
            self._open_stream(command.source)
        elif isinstance(command, do.OpenWholeLog):
            self._open_whole()
        elif isinstance(command, do.CloseStream):
            self._close_stream()
        elif isinstance(command, do.CloseWholeLog):
            self._close_whole()
        elif isinstance(command, do.Wait):
            self._stopped.wait(min(command.seconds, SLICE_SECONDS))
        else:
            self.end = command.end

    def _ask_status(self) -> None:
        try:
            job = self._agent.send(self._agent.config.service.get_job(self.job_id), tries=1)
        except RayAgentError as error:
            self.on_status_failed(error)
        else:
            self.on_status(job)

    def _open_stream(self, source: str) -> None:
        try:
            self._stream = open_stream(self._agent, self.job_id, source)
        except RayAgentError:
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    def _read_stream(self, seconds: float) -> None:
        if self._stream is None:
            raise AssertionError
        try:
            events, alive = self._stream.read(seconds)
        except StreamEndedError as ended:
            self._close_stream()
            self.tail.stream_ended(self.clock(), too_long=ended.too_long)
        else:
            self.on_events(events, alive=alive)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _open_whole(self) -> None:
        try:
            self._whole = WholeLog(self._agent, self.job_id)
        except RayAgentError as error:
            self.on_whole_log_failed(error)
        else:
            self.tail.whole_log_opened(self.clock())

    def _read_whole(self) -> None:
        if self._whole is None:
            raise AssertionError
        try:
            text = self._whole.read()
        except RayAgentError as error:
            self._close_whole()
            self.on_whole_log_failed(error)
            return
        if text is None:
            delimited = self._whole.delimited
            self._close_whole()
            self.tail.whole_log_ended(self.clock(), delimited=delimited)
        else:
            self.tail.whole_log_received(self.clock(), text)

    def _close_whole(self) -> None:
        whole, self._whole = self._whole, None
        if whole is not None:
            whole.close()
