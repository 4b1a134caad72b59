"""The whole log of a job, and what it has in common with the live one. One text for both transports.

The rules of the tail are in the state machine.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentResponseError
from airflow_provider_rayagent.transport import limits, responses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow_provider_rayagent.services.call import Call
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.transport.service_client import ReadAhead, Response, ServiceClient

SLICE_SECONDS = 1.0
"""Maximum duration of one wait, so that the job's status is polled and a request to stop is noticed meanwhile."""
SEND_SECONDS = 5.0
"""Timeout for sending a frame to a peer that does not read."""


class StreamEndedError(Exception):
    """The stream has ended.

    :param reason: why it ended.
    :param too_long: whether it ended because a message was too long to hold in memory.
    """

    def __init__(self, reason: str, *, too_long: bool = False) -> None:
        super().__init__(reason)
        self.too_long = too_long


def end_of_stream(error: BaseException | None) -> StreamEndedError:
    """Return the error for a stream that has ended.

    :param error: the exception of a library that ended it; ``None``: the server did.
    """
    return StreamEndedError(str(error) or type(error).__name__ if error else "closed by the server")


class WholeLog:
    """The whole log, read incrementally. Created by :meth:`open`."""

    def __init__(self, client: ServiceClient, response: Response, ahead: ReadAhead) -> None:
        self._client = client
        self._ahead = ahead
        self._budget = limits.WaitBudget(limits.LOG)
        headers = response.headers
        self._decoder = client.config.service.log_decoder(headers.get("content-type", ""))
        self._has_ended = False
        # Any other body ends where the connection does, for whatever reason (RFC 9112, section 6.3).
        self.is_delimited = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
        """Whether the response declares its end, so that a truncated one is detected."""

    @classmethod
    async def open(cls, client: ServiceClient, call: Call) -> WholeLog:
        """Request the log.

        :raises RayAgentError: if it cannot be read.
        """
        async with AsyncExitStack() as opened:
            response = await opened.enter_async_context(client.opened(call))
            await check_response(client, call, response)
            return cls(client, response, await read_ahead(response, opened, is_stream=False))

    async def read(self) -> str | None:
        """Return the next chunk of text, an empty one after :data:`SLICE_SECONDS` without data, or ``None`` at the end.

        :raises RayAgentConnectionError: if the response is incomplete or too slow, or is not a log.
        """
        if self._has_ended:
            return None
        began = time.monotonic()
        try:
            body = await self._ahead.take(min(self._budget.left, SLICE_SECONDS))
        except StreamEndedError as ended:
            if ended.__cause__ is not None:
                raise self._client.error(ended.__cause__) from None
            self._has_ended = True
            return self._text(None)
        except limits.TooSlowError as error:
            raise self._client.error(error) from None
        self._budget.spend(time.monotonic() - began, len(body))
        return self._text(body)

    def _text(self, body: bytes | None) -> str:
        """Return the text that ``body`` completes, or the rest at the end of the response."""
        try:
            return self._decoder.end() if body is None else self._decoder.feed(body)
        except ValueError as error:
            raise RayAgentConnectionError(f"Reading the log failed: {error}.") from None

    async def aclose(self) -> None:
        """Close the response; its connection returns to the pool if the body was read completely."""
        await self._ahead.close()


@asynccontextmanager
async def opened_log(
    client: ServiceClient, job_id: JobId, job: Mapping[str, Any] | None = None
) -> AsyncIterator[WholeLog | None]:
    """Yield the whole log of a job, unread; ``None`` if nothing was logged. The request is retried like a call.

    :param job: the job's details, if they are known.
    :raises RayAgentError: if it cannot be read.
    """
    call = await client.ask(client.config.service.locate_log(job_id, job))
    log = None if call is None else await client.repeated(call, lambda _: WholeLog.open(client, call))
    try:
        yield log
    finally:
        if log is not None:
            await log.aclose()


async def read_whole_log(client: ServiceClient, job_id: JobId) -> str:
    """Return the whole log of a job. Retries like a call.

    :raises RayAgentError: if it cannot be read, or is too long to be held.
    """
    call = await client.ask(client.config.service.locate_log(job_id))

    async def read(_: int) -> str:
        log, chunks, chars = await WholeLog.open(client, call), list[str](), 0
        try:
            while (text := await log.read()) is not None:
                chunks.append(text)
                chars += len(text)
                if chars > limits.HELD_LOG_CHARS:
                    raise RayAgentResponseError(
                        f"The log of job {job_id} has more than {limits.HELD_LOG_CHARS:,} characters: "
                        "read it line by line, with tail_job_logs."
                    )
        finally:
            await log.aclose()
        return "".join(chunks)

    return "" if call is None else await client.repeated(call, read)


async def read_ahead(response: Response, opened: AsyncExitStack, *, is_stream: bool) -> ReadAhead:
    """Start to read a response ahead, which closes it from then on."""
    closing = opened.pop_all()
    try:
        return response.read_ahead(closing, is_stream=is_stream)
    except BaseException:
        # Such as the RuntimeError of a thread that cannot start.
        await closing.aclose()
        raise


async def check_response(client: ServiceClient, call: Call, response: Response) -> None:
    """Validate a response that should contain a log; its body is read only for an error status.

    :raises RayAgentHTTPError: for an error status or a redirect.
    :raises RayAgentResponseError: for an HTML page.
    """
    body = b"" if response.is_success else await client.read_body(call, response)
    responses.check_status(call, response.status, response.headers, body, client.config)
    if responses.is_html(response.headers, ""):
        raise responses.unexpected(call, response.status, "a log", "an HTML page", client.config)
