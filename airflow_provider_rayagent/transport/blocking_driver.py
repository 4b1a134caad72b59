"""Drive a tail over the blocking transports."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.transport.blocking_logs import LogStream, WholeLog, open_stream
from airflow_provider_rayagent.transport.log_responses import StreamEndedError
from airflow_provider_rayagent.transport.steps import run_steps
from airflow_provider_rayagent.transport.tail_driver import SLICE_SECONDS, Following, OpenLog, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.blocking import BlockingAgent


class Follower(Following):
    """Follows one job: :meth:`items` yields its items, then the attributes contain the outcome.

    :param deadline: seconds from now after which to give up.
    :param stopped: set by another thread or a signal handler to stop soon.
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
        super().__init__(agent.config, job_id, settings, cursor=cursor, deadline=deadline, clock=clock)
        self._agent = agent
        self._stopped = stopped or threading.Event()
        self._stream: LogStream | None = None
        self._whole: WholeLog | None = None

    def items(self) -> Generator[list[Item], None, None]:
        """Yield lists of items, which may be empty, until the end. Closing the generator closes all connections."""
        try:
            while self.end is None and not self._stopped.is_set():
                run_steps(self.step(), self._do, (RayAgentError, StreamEndedError))
                yield self.take()
        finally:
            self._do(commands.CloseStream())
            self._do(commands.CloseWholeLog())

    def _do(self, command: Step) -> Any:
        match command:
            case Call():
                return self._agent.send(command, tries=1)
            case OpenLiveLog():
                self._stream = open_stream(self._agent, command)
            case commands.ReadStream(seconds) if self._stream is not None:
                return self._stream.read(min(seconds, SLICE_SECONDS))
            case commands.CloseStream() if self._stream is not None:
                stream, self._stream = self._stream, None
                stream.close()
            case OpenLog(call):
                self._whole = WholeLog.open(self._agent, call)
            case commands.ReadWholeLog() if self._whole is not None:
                return self._whole.read()
            case commands.CloseWholeLog() if self._whole is not None:
                whole, self._whole = self._whole, None
                whole.close()
                return whole.text.is_delimited
            case commands.Wait(seconds) | Pause(seconds):
                self._stopped.wait(min(seconds, SLICE_SECONDS))
        return None
