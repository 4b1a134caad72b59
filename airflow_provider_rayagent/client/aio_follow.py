"""Drive a tail over the asyncio transports."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.aio_items import Items, TaskItems
from airflow_provider_rayagent.client.aio_streams import AsyncLogStream, AsyncWholeLog, open_stream
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.following import Following
from airflow_provider_rayagent.client.logstreams import StreamEndedError
from airflow_provider_rayagent.client.validation import JobId
from airflow_provider_rayagent.tail import commands as do

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from airflow_provider_rayagent.client.aio import AsyncAgent
    from airflow_provider_rayagent.client.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.tail.items import Item


class AsyncFollower(Following):
    """Follow one job: :meth:`items` gives what there is to tell, and then the attributes say how it ended.

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
        redact = agent.config.redact
        super().__init__(job_id, settings, cursor=cursor, deadline=deadline, clock=clock, redact=redact)
        self._agent = agent
        self._stream: AsyncLogStream | None = None
        self._whole: AsyncWholeLog | None = None

    def items(self) -> Items[list[Item]]:
        """Return what gives lists, empty ones too, of lines, notices and job news, until the end.

        Closing it closes all, and so does dropping it.
        """
        return TaskItems(self._items())

    async def _items(self) -> AsyncGenerator[list[Item], None]:
        try:
            while self.end is None:
                await self._step()
                yield self.take()
        finally:
            try:
                await self._close_stream()
            finally:
                await self._close_whole()

    async def _step(self) -> None:
        command = self.tail.next(self.clock())
        if isinstance(command, do.ReadStream):
            await self._read_stream(command.seconds)
        elif isinstance(command, do.ReadWholeLog):
            await self._read_whole()
        elif isinstance(command, do.AskStatus):
            await self._ask_status()
        elif isinstance(command, do.OpenStream):
            await self._open_stream(command.source)
        elif isinstance(command, do.OpenWholeLog):
            await self._open_whole()
        elif isinstance(command, do.CloseStream):
            await self._close_stream()
        elif isinstance(command, do.CloseWholeLog):
            await self._close_whole()
        elif isinstance(command, do.Wait):
            await asyncio.sleep(command.seconds)
        else:
            self.end = command.end

    async def _ask_status(self) -> None:
        try:
            job = await self._agent.send(self._agent.config.service.get_job(self.job_id), tries=1)
        except RayAgentError as error:
            self.on_status_failed(error)
        else:
            self.on_status(job)

    async def _open_stream(self, source: str) -> None:
        try:
            self._stream = await open_stream(self._agent, self.job_id, source)
        except RayAgentError:
            self.tail.stream_failed(self.clock())
        else:
            self.tail.stream_opened(self.clock())

    async def _read_stream(self, seconds: float) -> None:
        if self._stream is None:
            raise AssertionError
        try:
            events, alive = await self._stream.read(seconds)
        except StreamEndedError as ended:
            await self._close_stream()
            self.tail.stream_ended(self.clock(), too_long=ended.too_long)
        else:
            self.on_events(events, alive=alive)

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _open_whole(self) -> None:
        try:
            self._whole = await AsyncWholeLog.open(self._agent, self.job_id)
        except RayAgentError as error:
            self.on_whole_log_failed(error)
        else:
            self.tail.whole_log_opened(self.clock())

    async def _read_whole(self) -> None:
        if self._whole is None:
            raise AssertionError
        try:
            text = await self._whole.read()
        except RayAgentError as error:
            await self._close_whole()
            self.on_whole_log_failed(error)
            return
        if text is None:
            delimited = self._whole.delimited
            await self._close_whole()
            self.tail.whole_log_ended(self.clock(), delimited=delimited)
        else:
            self.tail.whole_log_received(self.clock(), text)

    async def _close_whole(self) -> None:
        whole, self._whole = self._whole, None
        if whole is not None:
            await whole.close()
