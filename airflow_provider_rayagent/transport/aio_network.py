"""The connections of asyncio code, of which a cancelled request leaves none open."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from airflow_provider_rayagent.connection.config import MAX_IDLE_SECONDS
from airflow_provider_rayagent.transport import daemon_threads
from airflow_provider_rayagent.transport.failures import HANDSHAKE

if TYPE_CHECKING:
    import ssl
    from concurrent.futures import Future


def make_transport(context: ssl.SSLContext, proxy: httpx.Proxy | None = None) -> httpx.AsyncHTTPTransport:
    """Return a transport with a connection pool of its own."""
    # A stream occupies its connection as long as its job runs. With httpx's default of 100 connections, those of
    # further jobs would wait for one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=MAX_IDLE_SECONDS)
    transport = httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy)
    # httpx passes no backend to the pool, which has an argument for it. Another httpx may have another attribute.
    with suppress(AttributeError):
        transport._pool._network_backend = NetworkBackend()
    return transport


async def send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request; return the response with its body unread."""
    made: list[httpcore.AsyncNetworkStream] = []

    async def record(event: str, details: dict[str, Any]) -> None:
        if event.endswith(".connect_tcp.complete"):
            made.append(details["return_value"])

    request.extensions["trace"] = record
    try:
        return await client.send(request, stream=True)
    except httpx.InvalidURL as error:
        # httpx also creates the request that would follow a redirect. Most invalid targets raise the same error there.
        raise httpx.RemoteProtocolError(f"Invalid URL in location header: {error}", request=request) from None
    except BaseException as error:
        # If it is cancelled in a TLS handshake or before the first byte is sent, httpcore leaves its connection open:
        # ``start_tls`` in ``_backends/anyio.py`` handles only ``Exception``, and ``_async/http11.py`` waits for a lock
        # outside its ``try`` block.
        for connection in made:
            await connection.aclose()
        # There is a TCP connection, so that the TLS handshake has timed out. httpx raises the same type for both.
        if made and isinstance(error, httpx.ConnectTimeout):
            raise TimeoutError(HANDSHAKE) from None
        raise


def _report(lookup: asyncio.Future[None], found: Future[Any]) -> None:
    # The event loop may have ended.
    with suppress(RuntimeError):
        lookup.get_loop().call_soon_threadsafe(_finish, lookup, found.exception())


def _finish(lookup: asyncio.Future[None], error: BaseException | None) -> None:
    if error is None:
        lookup.set_result(None)
    else:
        lookup.set_exception(error)
        lookup.exception()  # It is no error if nobody waits for it any more.


class NetworkBackend(httpcore.AnyIOBackend):
    """Makes connections. If a connect is cancelled, the connection is closed as soon as it is made.

    Otherwise, it stays open if its end coincides with the cancellation: ``anyio.connect_tcp``
    (``anyio/_core/_sockets.py``) does not close the stream then.

    A host name is resolved in a thread of its own first. While a name server does not answer, a lookup holds its thread
    for half a minute, and the event loop has few threads, which all other code in the process uses too.
    """

    def __init__(self) -> None:
        self._lookups: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        """The event loop has only weak references to tasks."""

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.AsyncNetworkStream:
        """Return a new connection."""
        began = time.monotonic()
        await self._check_name(host, timeout)
        left = None if timeout is None else max(timeout - (time.monotonic() - began), 0.0)
        connecting = self._start(super().connect_tcp(host, port, left, *args, **kwargs))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._close)
            raise

    async def _check_name(self, host: str, timeout: float | None) -> None:
        """Wait until the name server has answered."""
        with suppress(ValueError):
            ip_address(host)
            return
        lookup = self._lookups.get(host)
        if lookup is None or lookup.done():
            lookup = self._lookups[host] = asyncio.get_running_loop().create_future()
            daemon_threads.start(partial(socket.getaddrinfo, host, None)).add_done_callback(partial(_report, lookup))
        # wait() does not cancel the lookup, which all connects to the host share.
        done, _ = await asyncio.wait((lookup,), timeout=timeout)
        if not done:
            raise httpcore.ConnectTimeout(f"no response about {host}")
        if error := lookup.exception():
            raise httpcore.ConnectError(error) from error

    def _start(self, steps: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(steps)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _close(self, connecting: asyncio.Task[httpcore.AsyncNetworkStream]) -> None:
        if not connecting.cancelled() and connecting.exception() is None:
            self._start(connecting.result().aclose())
