"""Drive a tail over the asyncio transports."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call, Pause
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.tail import commands
from airflow_provider_rayagent.transport.aio_items import Items, TaskItems
from airflow_provider_rayagent.transport.aio_logs import AsyncLogStream, AsyncWholeLog, open_stream
from airflow_provider_rayagent.transport.log_responses import StreamEndedError
from airflow_provider_rayagent.transport.steps import run_steps_async
from airflow_provider_rayagent.transport.tail_driver import Following, OpenLog, Step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.aio import AsyncAgent


class AsyncFollower(Following):
    """Follows one job: :meth:`items` yields its items, then the attributes contain the outcome.

    :param deadline: seconds from now after which to give up.
    """

    def __init__(
        self,
        agent: AsyncAgent,
        job_id: JobId,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(agent.config, job_id, settings, cursor=cursor, deadline=deadline, clock=clock)
        self._agent = agent
        self._stream: AsyncLogStream | None = None
        self._whole: AsyncWholeLog | None = None

    def items(self) -> Items[list[Item]]:
        """Return an iterator over lists of items, which may be empty, until the end.

        Closing it or dropping its last reference closes all connections.
        """
        return TaskItems(self._items())

    async def _items(self) -> AsyncGenerator[list[Item], None]:
        try:
            while self.end is None:
                await run_steps_async(self.step(), self._do, (RayAgentError, StreamEndedError))
                yield self.take()
        finally:
            try:
                await self._do(commands.CloseStream())
            finally:
                await self._do(commands.CloseWholeLog())

    async def _do(self, command: Step) -> Any:
        match command:
            case Call():
                return await self._agent.send(command, tries=1)
            case OpenLiveLog():
                self._stream = await open_stream(self._agent, command)
            case commands.ReadStream(seconds) if self._stream is not None:
                return await self._stream.read(seconds)
            case commands.CloseStream() if self._stream is not None:
                stream, self._stream = self._stream, None
                await stream.close()
            case OpenLog(call):
                self._whole = await AsyncWholeLog.open(self._agent, call)
            case commands.ReadWholeLog() if self._whole is not None:
                return await self._whole.read()
            case commands.CloseWholeLog() if self._whole is not None:
                whole, self._whole = self._whole, None
                await whole.close()
                return whole.text.is_delimited
            case commands.Wait(seconds) | Pause(seconds):
                await asyncio.sleep(seconds)
        return None
