"""The asyncio transport: ``httpx`` for calls and bodies, two pooled clients."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import httpx
from asgiref.sync import sync_to_async

from airflow_provider_rayagent.stream import long_json
from airflow_provider_rayagent.transport import limits, responses
from airflow_provider_rayagent.transport.aio_logs import ReadAheadTask, UpgradedStream
from airflow_provider_rayagent.transport.aio_network import make_transport, send
from airflow_provider_rayagent.transport.environment import Environment, read_environment
from airflow_provider_rayagent.transport.failures import LibraryErrors
from airflow_provider_rayagent.transport.service_client import Response, ServiceClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Call, FileContent


HTTPX_ERRORS = LibraryErrors(
    unusable=(httpx.InvalidURL, httpx.UnsupportedProtocol),
    connect_timeout=(httpx.ConnectTimeout,),
    read_timeout=(httpx.ReadTimeout, httpx.WriteTimeout),
)
# OSError includes the TimeoutError of anyio.fail_after(), ssl.SSLError, and errors of the files for TLS.
BROKEN = (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError)
"""Exceptions raised while a request is sent, and while a body is read."""


class _Clients(NamedTuple):
    """Separate clients for calls and streams: each call iterates over all connections of its client's pool."""

    calls: httpx.AsyncClient
    streams: httpx.AsyncClient


class AsyncResponse(Response):
    """A response of ``httpx``."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code, response.headers)
        self._response = response

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.aiter_bytes()

    async def collect(self, body: limits.Body) -> None:
        with anyio.move_on_after(body.limit.seconds) as scope:
            await super().collect(body)
        if scope.cancelled_caught:
            raise body.too_slow

    def read_ahead(self, opened: AsyncExitStack, *, is_stream: bool) -> ReadAheadTask:  # noqa: ARG002
        return ReadAheadTask(self.chunks(), opened)

    def upgraded(self) -> UpgradedStream:
        return UpgradedStream(self._response.extensions["network_stream"])

    async def close(self) -> None:
        await self._response.aclose()


class AsyncServiceClient(ServiceClient):
    """A client of one agent for asyncio code. Use it as an async context manager, or await :meth:`close`.

    :param sleep: awaited with the seconds to wait before a retry.
    """

    library = HTTPX_ERRORS
    broken = BROKEN

    def __init__(self, config: ServiceConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        super().__init__(config)
        self._sleep = sleep
        self._clients: _Clients | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every pooled connection."""
        # Before the first await, so that a request that comes meanwhile makes new clients instead of using these.
        clients, self._clients = self._clients, None
        if clients is not None:
            try:
                await clients.calls.aclose()
            finally:
                await clients.streams.aclose()

    async def _opened_clients(self) -> tuple[_Clients, Environment]:
        # First requests may come together. Without the lock, each makes clients, and only the last ones get closed.
        async with self._opening:
            if self._clients is None or self._environment is None:
                config = self.config
                environment, context = await asyncio.to_thread(_environment_and_tls, config)
                self._environment = environment
                self._clients = _Clients(
                    _client(config, environment, context, config.read_timeout),
                    # No read timeout: a stream may be silent for as long as its job, and the tail limits that.
                    _client(config, environment, context, None),
                )
            return self._clients, self._environment

    send = ServiceClient.ask

    async def _pause(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def _open(self, call: Call, headers: Mapping[str, str], *, stream: bool) -> Response:
        config = self.config
        # With a limit of its own: on a busy machine, reading the CAs may take longer than the service is given.
        with anyio.fail_after(limits.PREPARATION_SECONDS):
            await self._opened_clients()
        # Of a stream: the time for the connection, and for the response.
        seconds = 2 * config.connect_timeout if stream else limits.exchange_seconds(call, config.read_timeout)
        # For all redirects and the token file together: the timeouts of httpx limit each read, write and connect only.
        with anyio.fail_after(seconds):
            return await super()._open(call, headers, stream=stream)

    async def _request(self, call: Call, url: str, headers: Mapping[str, str], *, stream: bool) -> AsyncResponse:
        clients, environment = await self._opened_clients()
        environment.proxy(url)  # raises if the proxy is invalid, since ``mounts`` omits it
        client = clients.streams if stream else clients.calls
        timeout = httpx.Timeout(**client.timeout.as_dict() | {"read": call.read_timeout or client.timeout.read})
        content = None
        if call.content is not None:
            # With its length, httpx does not use chunked encoding.
            headers = {**headers, "Content-Length": str(len(call.content))}
            content = _chunks(call.content)
        request = client.build_request(
            call.method, url, json=call.body, content=content, headers=_encoded(headers), timeout=timeout
        )
        return AsyncResponse(await send(client, request))

    async def _value(self, call: Call, response: Response, body: bytes) -> Any:
        if self.loads is not None or len(body) < long_json.LONG:
            return await super()._value(call, response, body)

        def substitute(element: Any) -> Any:
            return call.substitute(element) if call.substitute and isinstance(element, dict) else element

        # Not only in a thread, since `json.loads` would hold the interpreter lock, and so the event loop, all the time.
        loads = partial(long_json.loads, each=substitute)
        read = partial(responses.read_response, call, response.status, response.headers, body, self.config, loads)
        return await asyncio.to_thread(read)

    def _start(self, function: Callable[[], None]) -> asyncio.Task[None]:
        # A thread of asgiref, since Airflow's mask_secret() needs the loop.
        started = asyncio.create_task(sync_to_async(function, thread_sensitive=False)())
        started.add_done_callback(_retrieve)
        return started

    async def _wait_for(self, started: asyncio.Task[None], seconds: float) -> None:  # type: ignore[override]
        # Not wait_for(), which cancels what it waits for, here for all other requests too.
        await asyncio.wait((started,), timeout=seconds)


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


def _client(
    config: ServiceConfig, environment: Environment, context: ssl.SSLContext, read_timeout: float | None
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
    # httpcore raises RuntimeError for a TLS context with an http proxy (``AsyncHTTPProxy.__init__``).
    return httpx.Proxy(url, ssl_context=context if url.startswith("https:") else None)


def _environment_and_tls(config: ServiceConfig) -> tuple[Environment, ssl.SSLContext]:
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
        # SSL_CERT_DIR names a directory, which OpenSSL does not accept as ``cafile``.
        folder = Path(verify).is_dir()
        context = ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
    else:
        # Only for True and False: httpx deprecates a path here (0.28). With ``trust_env`` it reads SSL_CERT_FILE again.
        context = httpx.create_ssl_context(verify=verify, trust_env=False)
    if cert:
        context.load_cert_chain(cert, key)
    return context
