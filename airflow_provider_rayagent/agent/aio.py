"""The asyncio transport: ``httpx`` for calls and bodies, two pooled clients."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import tenacity

from airflow_provider_rayagent.agent import answers, retry
from airflow_provider_rayagent.agent.config import MAX_IDLE_SECONDS
from airflow_provider_rayagent.agent.errors import RayAgentError
from airflow_provider_rayagent.agent.failures import LibraryErrors, as_agent_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from typing_extensions import Self

    from airflow_provider_rayagent.agent.config import AgentConfig
    from airflow_provider_rayagent.agent.wire import Call


HTTPX_ERRORS = LibraryErrors(
    unusable=(httpx.InvalidURL, httpx.UnsupportedProtocol),
    connect_timeout=(httpx.ConnectTimeout,),
    read_timeout=(httpx.ReadTimeout, httpx.WriteTimeout),
)


class _Clients(NamedTuple):
    """Two clients, since each call looks at all connections of its client, and there is one for each stream."""

    calls: httpx.AsyncClient
    streams: httpx.AsyncClient


class AsyncAgent:
    """One agent, spoken to from asyncio code. Use it as an async context manager, or await :meth:`close`.

    :param sleep: awaited with the seconds to wait before another try.
    """

    def __init__(self, config: AgentConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.config = config
        self._sleep = sleep
        self._clients: _Clients | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every pooled connection."""
        clients, self._clients = self._clients, None
        if clients is not None:
            try:
                await clients.calls.aclose()
            finally:
                await clients.streams.aclose()

    async def _opened_clients(self) -> _Clients:
        async with self._opening:
            if self._clients is None:
                config = self.config
                context: ssl.SSLContext | bool = False
                try:
                    if config.base_url.startswith("https"):
                        context = await asyncio.to_thread(_ssl_context, config)
                except OSError as error:
                    raise as_agent_error(error, config, HTTPX_ERRORS) from None
                self._clients = _Clients(
                    _client(config, context, httpx.Timeout(config.read_timeout, connect=config.connect_timeout)),
                    _client(config, context, httpx.Timeout(None, connect=config.connect_timeout)),
                )
            return self._clients

    async def send(self, call: Call, *, tries: int = retry.MAX_TRIES) -> Any:
        """Return the answer's value: a dict, a list of dicts or ``None``, as ``call.shape`` says.

        :param tries: how often it may be sent, within what :func:`retry.may_retry` allows.
        :raises RayAgentError: for every failure.
        """
        attempts = iter(range(1, tries + 1))

        async def send_once() -> Any:
            return await self._send_once(call, next(attempts))

        return await self.repeated(call, send_once, tries=tries)

    async def repeated(self, call: Call, send: Callable[[], Awaitable[Any]], *, tries: int = retry.MAX_TRIES) -> Any:
        """Return what ``send`` returns, which sends ``call``, trying again where that is allowed."""
        return await tenacity.AsyncRetrying(sleep=self._sleep, **retry.policy(call, tries))(send)

    async def _send_once(self, call: Call, attempt: int) -> Any:
        async with self.opened(call) as response:
            body = await response.aread()
        if call.method == "DELETE" and response.status_code == 404 and attempt > 1:
            return None
        return answers.read_answer(call, response.status_code, response.headers, body, self.config.redact)

    @asynccontextmanager
    async def opened(
        self, call: Call, *, stream: bool = False, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Give the response to ``call``, its body unread; what breaks while it is read is raised as ours.

        :param stream: whether the response goes on for long, with silences of any length.
        :param headers: more headers of the request.

        :raises RayAgentError: for every failure of the connection, but not for an error status.
        """
        response = None
        try:
            response = await self._open(call, headers, stream=stream)
            yield response
        except RayAgentError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise as_agent_error(error, self.config, HTTPX_ERRORS) from None
        finally:
            if response is not None:
                await response.aclose()

    async def _open(self, call: Call, headers: Mapping[str, str] | None, *, stream: bool) -> httpx.Response:
        clients = await self._opened_clients()
        client = clients.streams if stream else clients.calls
        url = self.config.url(call.path)
        for redirects in range(answers.MAX_REDIRECTS + 1):
            response = await client.send(
                client.build_request(call.method, url, json=call.body, headers=headers), stream=True
            )
            target = answers.safe_target(call, url, response.status_code, response.headers)
            if target is None or redirects == answers.MAX_REDIRECTS:
                break
            await response.aclose()
            url = target
        return response


def _client(config: AgentConfig, context: ssl.SSLContext | bool, timeout: httpx.Timeout) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=dict(config.headers),
        verify=context,
        follow_redirects=False,
        timeout=timeout,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=MAX_IDLE_SECONDS),
    )


def _ssl_context(config: AgentConfig) -> ssl.SSLContext:
    if config.verify is True:
        context = httpx.create_ssl_context()
    elif config.verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=config.verify)
    if config.client_cert:
        cert, key = config.client_cert if isinstance(config.client_cert, tuple) else (config.client_cert, None)
        context.load_cert_chain(cert, key)
    return context
