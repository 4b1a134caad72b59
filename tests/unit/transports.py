"""The blocking and the asyncio transport behind one interface, for tests that apply to both."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call, finish
from airflow_provider_rayagent.services.service import OpenLiveLog
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport import live_logs, log_responses
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from airflow_provider_rayagent.transport.request_retry import MAX_TRIES
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.tail.commands import StreamSource
    from airflow_provider_rayagent.transport.service_client import ServiceClient
    from airflow_provider_rayagent.transport.tail_driver import Follower
    from tests.scripted import ScriptedAgent

ResultT = TypeVar("ResultT")
SOURCES: tuple[StreamSource, ...] = ("websocket", "http")
GET, POST = "GET jobs/j1/", "POST jobs/j1/stop/"
"""Routes of the scripted agent."""
GET_JOB, STOP_JOB = AGENT.get_job(JobId("j1")), AGENT.stop_job(JobId("j1"))
"""Their calls."""
WHOLE_LOG = Call("GET", "jobs/j1/logs/", "text")


def live_log(source: StreamSource) -> OpenLiveLog:
    """Return what opens a stream of the job ``j1``."""
    return OpenLiveLog(source, AGENT.streams.open(JobId("j1"), source), AGENT.streams.decode_event)


def config_of(server: ScriptedAgent | str, **extra: Any) -> ServiceConfig:
    """Return the configuration for an agent."""
    return read_config(host=server if isinstance(server, str) else server.url, token=TOKEN, extra=extra)


class Transport(ABC):
    """What the tests of both transports do with one; each method uses a client of its own."""

    @abstractmethod
    def run(self, config: ServiceConfig, work: Callable[[Any], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Return the result of a coroutine function, which gets the client of an agent."""

    @abstractmethod
    def follow(self, config: ServiceConfig, source: StreamSource, **settings: Any) -> tuple[list[str], Follower]:
        """Follow the job ``j1`` to its end. Return its lines, and what followed it."""

    def send(self, config: ServiceConfig, call: Call) -> Any:
        """Return the value of a call that is sent once."""
        return self.run(config, lambda agent: agent.ask(call, tries=1))

    def whole_log(self, config: ServiceConfig) -> str:
        """Return the whole log of the job ``j1``, requested once."""

        async def work(agent: ServiceClient) -> str:
            pieces = []
            async with aclosing(await log_responses.WholeLog.open(agent, WHOLE_LOG)) as log:
                while (text := await log.read()) is not None:
                    pieces.append(text)
            return "".join(pieces)

        return self.run(config, work)

    def held_log(self, config: ServiceConfig) -> str:
        """Return the whole log of the job ``j1``, as the hook's method does."""
        return self.run(config, lambda agent: log_responses.read_whole_log(agent, JobId("j1")))

    def open(self, config: ServiceConfig, source: StreamSource) -> None:
        """Open a stream of the job ``j1``, and close it."""
        self.messages(config, source, lambda _: True)

    def messages(
        self, config: ServiceConfig, source: StreamSource, until: Callable[[list[Event]], object]
    ) -> list[Event]:
        """Return the messages of a stream until there are enough.

        :raises StreamEndedError: if it ends before.
        """

        async def work(agent: ServiceClient) -> list[Event]:
            found: list[Event] = []
            async with aclosing(await live_logs.open_stream(agent, live_log(source))) as stream:
                while not until(found):
                    found += (await stream.read(1.0))[0]
            return found

        return self.run(config, work)


def _settings(source: StreamSource, settings: dict[str, Any]) -> TailSettings:
    return TailSettings(**{"sources": (source,), "poll_interval": 0.3, **settings})


class Blocking(Transport):
    """Uses :class:`BlockingServiceClient`."""

    def run(self, config: ServiceConfig, work: Callable[[Any], Coroutine[Any, Any, ResultT]]) -> ResultT:
        with BlockingServiceClient(config) as agent:
            return finish(work(agent))

    def follow(self, config: ServiceConfig, source: StreamSource, **settings: Any) -> tuple[list[str], Follower]:
        with BlockingServiceClient(config) as agent:
            follower = BlockingFollower(agent, JobId("j1"), _settings(source, settings))
            return [line for items in follower.blocking_items() for line in lines_in(items)], follower


class Asyncio(Transport):
    """Uses :class:`AsyncServiceClient`."""

    def run(self, config: ServiceConfig, work: Callable[[Any], Coroutine[Any, Any, ResultT]]) -> ResultT:
        async def run() -> ResultT:
            async with AsyncServiceClient(config) as agent:
                return await work(agent)

        return asyncio.run(run())

    def follow(self, config: ServiceConfig, source: StreamSource, **settings: Any) -> tuple[list[str], Follower]:
        async def work(agent: AsyncServiceClient) -> tuple[list[str], Follower]:
            follower = AsyncFollower(agent, JobId("j1"), _settings(source, settings))
            return [line async for items in follower.items() for line in lines_in(items)], follower

        return self.run(config, work)


class LoopAgent:
    """An :class:`AsyncServiceClient` for blocking code: each of its calls runs an event loop of its own."""

    def __init__(self, agent: AsyncServiceClient) -> None:
        self._agent = agent
        self._loop = asyncio.new_event_loop()

    @classmethod
    def make(cls, server: ScriptedAgent | str, *, sleep: Callable[[float], object] = float, **parts: Any) -> LoopAgent:
        async def pause(seconds: float) -> None:
            sleep(seconds)

        url = server if isinstance(server, str) else server.url
        return cls(AsyncServiceClient(read_config(**{"host": url, "token": TOKEN, **parts}), sleep=pause))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._agent.close())
        self._run(self._loop.shutdown_default_executor())
        self._loop.close()

    def send(self, call: Call, *, tries: int = MAX_TRIES) -> Any:
        """Return the value of a call."""
        return self._run(self._agent.send(call, tries=tries))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)


MakeAgent: TypeAlias = "Callable[..., BlockingServiceClient | LoopAgent]"
"""Returns a transport to an agent; see :func:`tests.unit.support.make_agent`."""
TRANSPORTS: dict[str, Transport] = {"blocking": Blocking(), "asyncio": Asyncio()}
USES: dict[str, Callable[[Transport, ServiceConfig], object]] = {
    "call": lambda transport, config: transport.send(config, AGENT.health_check()),
    "stop": lambda transport, config: transport.send(config, AGENT.stop_job(JobId("j1"))),
    "whole log": lambda transport, config: transport.whole_log(config),
    "http": lambda transport, config: transport.open(config, "http"),
    "websocket": lambda transport, config: transport.open(config, "websocket"),
}
"""Each kind of request, sent once."""
