"""The blocking transport: ``requests`` for calls and bodies, one pooled session."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Any

import requests
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.transport import daemon_threads, request_retry
from airflow_provider_rayagent.transport.blocking_connections import Adapter, Session, reader_of
from airflow_provider_rayagent.transport.blocking_logs import ReadAheadThread, UpgradedSocket
from airflow_provider_rayagent.transport.environment import read_environment
from airflow_provider_rayagent.transport.failures import LibraryErrors
from airflow_provider_rayagent.transport.limits import READ_BYTES
from airflow_provider_rayagent.transport.service_client import Response, ServiceClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from concurrent.futures import Future
    from contextlib import AsyncExitStack

    from typing_extensions import Self

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Call, Operation
    from airflow_provider_rayagent.transport.limits import Body

# Connections to keep when idle. While more are in use, urllib3 makes more and closes them afterwards (``block=False``).
POOL_SIZE = 4
REQUESTS_ERRORS = LibraryErrors(
    unusable=(
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidHeader,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        http.client.InvalidURL,
        LocationParseError,
    ),
    connect_timeout=(requests.ConnectTimeout,),
    # That of urllib3 too: requests does not convert what a read of ``response.raw`` raises.
    read_timeout=(requests.ReadTimeout, ReadTimeoutError),
)
# HTTPError is that of urllib3, which ``response.raw`` raises. ValueError: among others, the UnicodeEncodeError of
# ``http.client`` for a header that is not Latin-1 (``putheader``).
BROKEN = (requests.RequestException, HTTPError, OSError, ValueError)
"""Exceptions raised while a request is sent, and while a body is read."""


class BlockingResponse(Response):
    """A response of ``requests``."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(response.status_code, response.headers)
        self._response = response
        # Now, since a response that was read to its end has no connection (``release_conn`` of urllib3).
        self.reader = reader_of(response)

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := self._read():
            yield chunk

    async def collect(self, body: Body) -> None:
        self.reader.wait_for(body.limit)
        await super().collect(body)

    def read_ahead(self, opened: AsyncExitStack, *, is_stream: bool) -> ReadAheadThread:
        # The budget of WholeLog, or the silence timeout of the tail, limits the time instead.
        self.reader.wait_for(None, forever=is_stream)
        raw = self._response.raw
        # ``read_chunked`` is faster, and agents send each event as one chunk, but it waits for the whole of a chunk.
        in_chunks = is_stream and raw.chunked and raw.supports_chunked_reads()
        body = raw.read_chunked(READ_BYTES, decode_content=True) if in_chunks else iter(self._read, b"")
        return ReadAheadThread(self.reader, body, opened)

    def upgraded(self) -> UpgradedSocket:
        return UpgradedSocket(self.reader)

    async def close(self) -> None:
        self._response.close()

    def _read(self) -> bytes:
        # Not read(), in which urllib3 2 waits until as many bytes as requested have arrived.
        data: bytes = self._response.raw.read1(READ_BYTES, decode_content=True)
        return data


class BlockingServiceClient(ServiceClient):
    """A client of one agent for blocking code. Use it as a context manager, or call :meth:`close`.

    :param sleep: called with the seconds to wait before a retry.
    """

    library = REQUESTS_ERRORS
    broken = BROKEN

    def __init__(self, config: ServiceConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(config)
        self._sleep = sleep
        self._session = Session()
        # Otherwise a ``.netrc`` overrides the token, and ``requests`` reads other environment variables.
        self._session.trust_env = False
        self._session.headers.update(config.headers)
        adapter = Adapter(pool_connections=1, pool_maxsize=POOL_SIZE)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every pooled connection."""
        self._session.close()

    def send(self, operation: Operation, *, tries: int = request_retry.MAX_TRIES) -> Any:
        """Return the result of an operation; see :meth:`.ServiceClient.ask`."""
        return finish(self.ask(operation, tries=tries))

    async def _pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _start(self, function: Callable[[], None]) -> Future[None]:
        return daemon_threads.start(function)

    async def _wait_for(self, started: Future[None], seconds: float) -> None:  # type: ignore[override]
        daemon_threads.is_done_within(seconds, started)

    async def _request(self, call: Call, url: str, headers: Mapping[str, str], *, stream: bool) -> BlockingResponse:
        if self._environment is None:
            self._environment = read_environment(self.config)
        proxy = self._environment.proxy(url)
        read_timeout = self.config.connect_timeout if stream else call.read_timeout or self.config.read_timeout
        response = self._session.request(
            call.method,
            url,
            json=call.body,
            # Its length is known, so requests sends it as it is, without chunked encoding.
            data=call.content,
            headers=headers,
            timeout=(self.config.connect_timeout, read_timeout),
            verify=self._environment.verify,
            cert=self._environment.client_cert,
            proxies={"all": proxy} if proxy else None,
            stream=True,
            allow_redirects=False,
        )
        return BlockingResponse(response)
