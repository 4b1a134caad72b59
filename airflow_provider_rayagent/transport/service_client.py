"""The client of an agent: one text of coroutines for both transports.

Those of the blocking transport never suspend, so that :func:`.finish` runs them without an event loop.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from airflow_provider_rayagent.connection import credentials
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import Call, run_steps
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.transport import limits, other_service, request_retry, responses
from airflow_provider_rayagent.transport.failures import LibraryErrors, as_service_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.connection.credentials import TokenFile
    from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
    from airflow_provider_rayagent.services.call import Operation, Pause
    from airflow_provider_rayagent.transport.environment import Environment

ResultT = TypeVar("ResultT")


class ReadAhead(Protocol):
    """Reads a body ahead, within limits, so that a read can time out without losing data."""

    async def take(self, seconds: float) -> bytes:
        """Return the data received, after at most ``seconds``.

        :raises StreamEndedError: once the body has ended and all data was returned; its cause is the error, if any.
        """

    async def close(self) -> None:
        """Close the response; after a complete body, the connection can be reused."""


class UpgradedConnection(Protocol):
    """A connection whose protocol was changed to WebSocket."""

    @property
    def broken(self) -> tuple[type[Exception], ...]:
        """What its methods raise if the connection is broken."""

    async def receive(self, seconds: float) -> bytes | None:
        """Return the next data, empty at the end, or ``None`` if there is none in time."""

    async def send(self, data: bytes, seconds: float) -> None:
        """Send data, within ``seconds``."""


class Started(Protocol):
    """A function that runs in a thread: a future of either transport."""

    def done(self) -> bool:
        """Return whether it has returned."""

    def result(self) -> None:
        """Raise what it has raised, if anything."""


class Response:
    """A response whose body is unread.

    :param headers: a case-insensitive mapping.
    """

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the data of the body as it arrives."""
        raise NotImplementedError

    async def collect(self, body: limits.Body) -> None:
        """Read the body, within its limits."""
        async for chunk in self.chunks():
            if not body.add(chunk):
                break

    def read_ahead(self, opened: AsyncExitStack, *, is_stream: bool) -> ReadAhead:
        """Return the body.

        :param opened: closes the response.
        :param is_stream: whether it is a stream without time limits.
        """
        raise NotImplementedError

    def upgraded(self) -> UpgradedConnection:
        """Return the connection of a response with status 101."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release the connection; it is closed if the body was not read to its end."""
        raise NotImplementedError


class ServiceClient:
    """A client of one agent.

    The transports define ``library`` and ``broken``, the exceptions that their libraries raise, and the last methods.
    """

    library: ClassVar[LibraryErrors]
    broken: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.loads: Callable[[str], Any] | None = None
        """Parses the JSON of responses, where they arrive; ``None``: the transport's own way."""
        # Read at the first request, which reports what is wrong with it; reading it here would block an event loop.
        self._environment: Environment | None = None
        self._reading: Started | None = None
        self._reads = 0
        """How many times the token file was read, or began to be."""
        self._service_is_known = False
        """Whether the configured service has answered, or another one was looked for."""
        self._other_service: RayAgentConfigError | None = None
        """Which other service answers."""

    async def ask(self, operation: Operation, *, tries: int = request_retry.MAX_TRIES) -> Any:
        """Return the result of an operation; that of a single call is the value of its response.

        :param tries: maximum number of attempts for each call, if :func:`.request_retry.may_retry` permits them.
        :raises RayAgentError: for every failure.
        """
        if isinstance(operation, Call):
            try:
                value = await self.repeated(operation, partial(self._send_once, operation), tries=tries)
            except RayAgentError as error:
                await self._look_for_other_service(error)
                raise
            self._service_is_known = True
            return value

        async def do(step: Call | Pause) -> Any:
            if isinstance(step, Call):
                return await self.ask(step, tries=tries)
            await self._pause(step.seconds)
            return time.monotonic()

        return await run_steps(operation, do)

    async def _look_for_other_service(self, error: RayAgentError) -> None:
        """Raise an error that names the service at the URL, if it is another one than the configured one."""
        if not other_service.may_be_of_another(error):
            return
        if not self._service_is_known:
            # Now, since the requests of the search come here, too.
            self._service_is_known = True
            self._other_service = await other_service.find_other_service(self)
        if self._other_service is not None:
            # Without the traceback of the request before.
            raise self._other_service.with_traceback(None) from None

    async def repeated(
        self, call: Call, send: Callable[[int], Awaitable[ResultT]], *, tries: int = request_retry.MAX_TRIES
    ) -> ResultT:
        """Return the result of ``send``, which sends ``call``; retry it if permitted.

        :param send: is called with the number of the attempt, from 1.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await send(attempt)
            except RayAgentError as error:
                if attempt >= tries or not request_retry.may_retry(call, error):
                    raise
                seconds = request_retry.pause(attempt, error, random.random())  # noqa: S311
            await self._pause(seconds)

    async def _send_once(self, call: Call, attempt: int) -> Any:
        async with self.opened(call) as response:
            body = await self.read_body(call, response)
        if request_retry.has_succeeded(call, response.status, attempt):
            return None
        return await self._value(call, response, body)

    @asynccontextmanager
    async def opened(
        self, call: Call, *, stream: bool = False, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """Yield the response to ``call`` with its body unread, and convert exceptions raised while it is read.

        :param stream: whether the response is a stream without time limits. Its head must arrive within the
            ``connect_timeout``.
        :param headers: additional headers of the request.
        :raises RayAgentError: for every failure of the connection, but not for an error status.
        """
        response = None
        try:
            response = await self._open(call, headers or {}, stream=stream)
            # Before the body, whose transfer takes time.
            self.config.clock.note(response.headers.get("date"))
            yield response
        except RayAgentError:
            raise
        except self.broken as error:
            # Without its cause: a traceback with the library's exception would show the text of that without redaction.
            raise self.error(error) from None
        finally:
            if response is not None:
                await response.close()

    async def read_body(self, call: Call, response: Response) -> bytes:
        """Return the body of a response; for an error status, only the part that arrives soon.

        :raises RayAgentResponseError: if a response is too large.
        """
        body = limits.Body(call, response.status)
        try:
            await response.collect(body)
        except self.broken:
            if not body.is_error:
                raise
        return body.content

    async def _value(self, call: Call, response: Response, body: bytes) -> Any:
        """Return the value of a response; see :func:`.responses.read_response`."""
        loads = self.loads or json.loads
        return responses.read_response(call, response.status, response.headers, body, self.config, loads)

    def error(self, error: BaseException) -> RayAgentError:
        """Return our error for an exception of the libraries."""
        proxy = self._environment.proxy(self.config.base_url) if self._environment is not None else None
        return as_service_error(error, self.config, self.library, proxy)

    async def _open(self, call: Call, headers: Mapping[str, str], *, stream: bool) -> Response:
        url = self.config.url(call.path)
        for redirects in range(responses.MAX_REDIRECTS + 1):
            response = await self._authorized(call, url, headers, stream=stream)
            target = responses.safe_target(call, url, response.status, response.headers)
            # A redirect that is not followed, or one too many, is a response too: check_status() makes it an error.
            if target is None or redirects == responses.MAX_REDIRECTS:
                break
            # The body is not read, since a server may send one without an end; this only costs a new connection.
            await response.close()
            url = target
        return response

    async def _authorized(self, call: Call, url: str, headers: Mapping[str, str], *, stream: bool) -> Response:
        """Send a request; send it once more if it was rejected and the token file has another token by now."""
        token = await self._token_header()
        response = await self._request(call, url, {**headers, **token}, stream=stream)
        if response.status not in REJECTED:
            return response
        try:
            renewed = await self._token_header(rejected=token)
        except BaseException:
            # Also if this is cancelled, since the caller has no response that it could close.
            await response.close()
            raise
        if renewed == token:
            return response
        await response.close()
        return await self._request(call, url, {**headers, **renewed}, stream=stream)

    async def _token_header(self, rejected: Mapping[str, str] | None = None) -> Mapping[str, str]:
        token_file = self.config.token_file
        if token_file is None:
            return {}
        if token_file.is_due(rejected):
            await self._read_token(token_file, rejected)
        return token_file.headers

    async def _read_token(self, token_file: TokenFile, rejected: Mapping[str, str] | None) -> None:
        """Read the token file, which is due."""
        # A read that began earlier may have missed a change of the file; all requests share the next one.
        before = self._reads
        while token_file.is_due(rejected) and not await self._share_read(token_file, before):
            pass

    async def _share_read(self, token_file: TokenFile, before: int) -> bool:
        """Read the token file, or wait until another request has read it.

        :param before: the number of reads that began too early.
        :return: whether the token is the current one, or as current as can be known in time.
        """
        # One thread for all requests: with a thread for each, those that wait for a file system that hangs would
        # occupy the loop's executor, or become more and more.
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = self._start(token_file.read)
            self._reads += 1
        number = self._reads
        await self._wait_for(reading, credentials.READ_SECONDS)
        if reading.done():
            reading.result()
            return number > before
        if not token_file.headers:
            raise token_file.too_slow
        return True

    def _start(self, function: Callable[[], None]) -> Started:
        """Call a function in a thread."""
        raise NotImplementedError

    async def _wait_for(self, started: Started, seconds: float) -> None:
        """Wait until a function has returned, for some seconds at most; it continues afterwards."""
        raise NotImplementedError

    async def _request(self, call: Call, url: str, headers: Mapping[str, str], *, stream: bool) -> Response:
        """Send one request and return its response, even if it is a redirect."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        """Wait before a retry."""
        raise NotImplementedError
