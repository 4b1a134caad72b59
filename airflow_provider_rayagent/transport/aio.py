"""The asyncio transport: ``httpx`` for calls and bodies, two pooled clients."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import httpx
import tenacity
from asgiref.sync import sync_to_async

from airflow_provider_rayagent.connection.credentials import READ_SECONDS
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.transport import limits, request_retry, responses
from airflow_provider_rayagent.transport.aio_network import make_transport, send
from airflow_provider_rayagent.transport.environment import Environment, read_environment
from airflow_provider_rayagent.transport.failures import LibraryErrors, as_agent_error
from airflow_provider_rayagent.transport.steps import run_steps_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.connection.credentials import TokenFile
    from airflow_provider_rayagent.services.call import FileContent, Operation, Pause


HTTPX_ERRORS = LibraryErrors(
    unusable=(httpx.InvalidURL, httpx.UnsupportedProtocol),
    connect_timeout=(httpx.ConnectTimeout,),
    read_timeout=(httpx.ReadTimeout, httpx.WriteTimeout),
)
BROKEN = (httpx.HTTPError, httpx.StreamError, OSError)
"""Exceptions raised while a body is read."""


class _Clients(NamedTuple):
    """Separate clients for calls and streams: each call iterates over all connections of its client's pool."""

    environment: Environment
    calls: httpx.AsyncClient
    streams: httpx.AsyncClient


class AsyncAgent:
    """A client of one agent for asyncio code. Use it as an async context manager, or await :meth:`close`.

    :param sleep: awaited with the seconds to wait before a retry.
    """

    def __init__(self, config: AgentConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.config = config
        self.loads: Callable[[str], Any] = json.loads
        """Parses the JSON of responses."""
        self._sleep = sleep
        self._clients: _Clients | None = None
        self._opening = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._reads = 0
        """How many times the token file was read, or began to be."""

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
                try:
                    environment, context = await asyncio.to_thread(_environment_and_tls, config)
                except OSError as error:
                    raise self.error(error) from None
                self._clients = _Clients(
                    environment,
                    _client(config, environment, context, config.read_timeout),
                    _client(config, environment, context, None),
                )
            return self._clients

    async def send(self, operation: Operation, *, tries: int = request_retry.MAX_TRIES) -> Any:
        """Return the result of an operation; that of a single call is the value of its response.

        :param tries: maximum number of attempts for each call, if :func:`.request_retry.may_retry` permits them.
        :raises RayAgentError: for every failure.
        """
        if isinstance(operation, Call):
            return await self._send(operation, tries)
        return await run_steps_async(operation, lambda step: self._step(step, tries), (RayAgentError,))

    async def _step(self, step: Call | Pause, tries: int) -> Any:
        return await (self._send(step, tries) if isinstance(step, Call) else self._sleep(step.seconds))

    async def _send(self, call: Call, tries: int) -> Any:
        attempts = iter(range(1, tries + 1))

        async def send_once() -> Any:
            return await self._send_once(call, next(attempts))

        return await self.repeated(call, send_once, tries=tries)

    async def repeated(
        self, call: Call, send: Callable[[], Awaitable[Any]], *, tries: int = request_retry.MAX_TRIES
    ) -> Any:
        """Return the result of ``send``, which sends ``call``; retry it if permitted."""
        return await tenacity.AsyncRetrying(sleep=self._sleep, **request_retry.policy(call, tries))(send)

    async def _send_once(self, call: Call, attempt: int) -> Any:
        async with self.opened(call) as response:
            body = await read_body(call, response)
        if request_retry.has_succeeded(call, response.status_code, attempt):
            return None
        return responses.read_response(call, response.status_code, response.headers, body, self.config, self.loads)

    @asynccontextmanager
    async def opened(
        self, call: Call, *, stream: bool = False, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Yield the response to ``call`` with its body unread, and convert exceptions raised while it is read.

        :param stream: whether the response is a stream without time limits. Its head must arrive within twice the
            ``connect_timeout``: one for the connection, one for the response.
        :param headers: additional headers of the request.

        :raises RayAgentError: for every failure of the connection, but not for an error status.
        """
        config = self.config
        response = None
        try:
            seconds = 2 * config.connect_timeout if stream else limits.exchange_seconds(call, config.read_timeout)
            with anyio.fail_after(seconds):
                response = await self._open(call, headers, stream=stream)
            yield response
        except RayAgentError:
            raise
        except (*BROKEN, httpx.InvalidURL) as error:
            raise self.error(error) from None
        finally:
            if response is not None:
                await response.aclose()

    def error(self, error: BaseException) -> RayAgentError:
        """Return our error for an exception of the libraries."""
        proxy = self._clients.environment.proxy(self.config.base_url) if self._clients is not None else None
        return as_agent_error(error, self.config, HTTPX_ERRORS, proxy)

    async def _open(self, call: Call, headers: Mapping[str, str] | None, *, stream: bool) -> httpx.Response:
        clients = await self._opened_clients()
        client = clients.streams if stream else clients.calls
        url = self.config.url(call.path)
        for redirects in range(responses.MAX_REDIRECTS + 1):
            clients.environment.proxy(url)  # raises if the proxy is invalid, since ``mounts`` omits it
            response = await self._authorized(client, call, url, headers or {})
            target = responses.safe_target(call, url, response.status_code, response.headers)
            if target is None or redirects == responses.MAX_REDIRECTS:
                break
            await response.aclose()
            url = target
        return response

    async def _authorized(
        self, client: httpx.AsyncClient, call: Call, url: str, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Send a request; send it once more if it was rejected and the token file has another token by now."""
        token = await self._token_header()
        response = await _request(client, call, url, {**headers, **token})
        if response.status_code not in REJECTED:
            return response
        try:
            renewed = await self._token_header(rejected=token)
        except BaseException:
            await response.aclose()
            raise
        if renewed == token:
            return response
        await response.aclose()
        return await _request(client, call, url, {**headers, **renewed})

    async def _token_header(self, rejected: Mapping[str, str] | None = None) -> Mapping[str, str]:
        token_file = self.config.token_file
        if token_file is None:
            return {}
        # A read that began earlier may have missed a change of the file; all requests share the next one.
        before = self._reads
        while token_file.is_due(rejected) and not await self._read_token(token_file, before):
            pass
        return token_file.headers

    async def _read_token(self, token_file: TokenFile, before: int) -> bool:
        """Read the token file, or wait until another request has read it.

        :param before: the number of reads that began too early.
        :return: whether the token is the current one, or as current as can be known in time.
        """
        # One thread for all requests: with a thread for each, those that wait for a file system that hangs would
        # occupy the loop's executor. The thread is one of asgiref, since Airflow's mask_secret() needs the loop.
        reading = self._reading
        if reading is None or reading.done():
            reading = asyncio.create_task(sync_to_async(token_file.read, thread_sensitive=False)())
            reading.add_done_callback(_retrieve)
            self._reading = reading
            self._reads += 1
        number = self._reads
        await asyncio.wait((reading,), timeout=READ_SECONDS)
        if reading.done():
            reading.result()
            return number > before
        if not token_file.headers:
            raise token_file.too_slow
        return True


async def _request(client: httpx.AsyncClient, call: Call, url: str, headers: Mapping[str, str]) -> httpx.Response:
    timeout = httpx.Timeout(**client.timeout.as_dict() | {"read": call.read_timeout or client.timeout.read})
    content = None
    if call.content is not None:
        # With its length, httpx does not use chunked encoding.
        headers = {**headers, "Content-Length": str(len(call.content))}
        content = _chunks(call.content)
    request = client.build_request(
        call.method, url, json=call.body, content=content, headers=_encoded(headers), timeout=timeout
    )
    return await send(client, request)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    # ``httpx`` encodes str headers as ASCII.
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _retrieve(task: asyncio.Task[None]) -> None:
    """Prevent asyncio from logging the exception of a task if all who waited for it were cancelled."""
    if not task.cancelled():
        task.exception()


async def _chunks(content: FileContent) -> AsyncIterator[bytes]:
    """Read a file without blocking the event loop."""
    chunks = iter(content)
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


async def read_body(call: Call, response: httpx.Response) -> bytes:
    """Return the body of a response; for an error status, only the part that arrives soon.

    :raises RayAgentResponseError: if a response is too large.
    """
    body = limits.Body(call, response.status_code)
    try:
        with anyio.move_on_after(body.limit.seconds) as scope:
            async for chunk in response.aiter_bytes():
                if not body.add(chunk):
                    break
        if scope.cancelled_caught:
            raise body.too_slow
    except BROKEN:
        if not body.is_error:
            raise
    return body.content


def _client(
    config: AgentConfig, environment: Environment, context: ssl.SSLContext, read_timeout: float | None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers=_encoded(config.headers),
        transport=make_transport(context),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(read_timeout, connect=config.connect_timeout),
        mounts={
            f"{scheme}://": make_transport(context, _proxy(proxy, context))
            for scheme, proxy in environment.proxies.items()
            if isinstance(proxy, str)
        },
    )


def _proxy(url: str, context: ssl.SSLContext) -> httpx.Proxy:
    return httpx.Proxy(url, ssl_context=context if url.startswith("https:") else None)


def _environment_and_tls(config: AgentConfig) -> tuple[Environment, ssl.SSLContext]:
    """Return the environment and the TLS context. Blocking: reading CAs is too slow for an event loop."""
    environment = read_environment(config)
    try:
        return environment, _ssl_context(environment)
    except OSError:
        if config.base_url.startswith("https:"):
            raise
        # Plain http does not need CAs. After a redirect to https, no certificate is trusted.
        return environment, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _ssl_context(environment: Environment) -> ssl.SSLContext:
    verify, client_cert = environment.verify, environment.client_cert
    cert, key = client_cert if isinstance(client_cert, tuple) else (client_cert, None)
    for path in (verify, cert, key):
        if isinstance(path, str):
            Path(path).stat()  # Its error names the file, those of ``ssl`` do not.
    if isinstance(verify, str):
        folder = Path(verify).is_dir()
        context = ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
    else:
        context = httpx.create_ssl_context(verify=verify, trust_env=False)
    if cert:
        context.load_cert_chain(cert, key)
    return context
