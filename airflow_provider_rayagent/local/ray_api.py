"""Ray's dashboard, as the local agent asks it: with the package's own client, and errors for the agent's clients.

Every call raises :class:`RayUnavailableError` if Ray does not respond, and :class:`RayResponseError` if it rejects the
request or fails.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentServerError,
    RayAgentTimeoutError,
)
from airflow_provider_rayagent.local.errors import LocalAgentError, RayResponseError, RayTokenError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import read_tolerantly
from airflow_provider_rayagent.local.ray_token import missing_token, rejected_token
from airflow_provider_rayagent.services.call import Call, FileContent
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.aio import AsyncServiceClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from airflow_provider_rayagent.local.ray_token import RayToken
    from airflow_provider_rayagent.services.call import Operation

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
"""Seconds; less than the 10 s that the agent's client waits for a response."""
LONG_READ_TIMEOUT = 60.0
"""Seconds for calls with a large or slow response: a submission, an upload, a chunk of a log."""
MAX_REQUESTS = 50
"""Maximum number of concurrent requests, since each may need a connection and its file."""

Row = dict[str, Any]


class RayDashboard:
    """Client of one Ray dashboard.

    :param url: address of the dashboard, ``http://host:port``.
    :param find: returns the token if there is one, now and to explain why Ray rejects it; see
        :func:`~airflow_provider_rayagent.local.ray_token.find_token`.
    :raises LocalAgentError: if the address is invalid.
    """

    def __init__(self, url: str, find: Callable[[], RayToken | None] = lambda: None) -> None:
        token = None
        # A Ray without tokens must work beside a bad token file; if Ray requires one, `_refusal` finds the reason.
        with contextlib.suppress(RayTokenError):
            token = find()
        config = _config(url, token)
        self.url = config.base_url.rstrip("/")
        self._find = find
        self._client = AsyncServiceClient(config)
        self._client.loads = read_tolerantly
        self._places = asyncio.Semaphore(MAX_REQUESTS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def run(self, operation: Operation) -> Any:
        """Return the result of an operation of :data:`RAY`."""
        try:
            async with self._places:
                # One try: the agent's clients retry, and a second one would exceed the time for which they wait.
                return await self._client.send(operation, tries=1)
        except RayAgentError as error:
            if isinstance(error, RayAgentServerError):
                # If the control service is down, the dashboard responds with 500 to everything.
                await self._check_control_service()
            raise self._error(error) from error

    async def health(self) -> str:
        """Return Ray's version after checking that its control service (GCS) responds too."""
        version: Row = await self.run(Call("GET", "api/version"))
        await self._check_control_service()
        return str(version.get("ray_version"))

    async def list_jobs(self) -> list[Row]:
        """Return all jobs as Ray lists them, including drivers."""
        jobs: list[Row] = await self.run(RAY.list_jobs())
        return jobs

    async def get_job(self, job_id: str) -> Row:
        """Return Ray's details of one job, by its submission id or its job id."""
        job: Row = await self.run(RAY.get_job(JobId(job_id)))
        return job

    async def list_nodes(self) -> list[Row]:
        """Return all nodes, including dead ones, with their resources."""
        nodes: list[Row] = await self.run(RAY.list_nodes())
        return nodes

    async def log_text(self, job: Row, *, is_whole: bool) -> AsyncGenerator[str, None]:
        """Yield the log of a submitted job so far in chunks, with the same newlines as in Ray's live log.

        Invalid UTF-8 is replaced with U+FFFD.

        :param job: the job's details.
        :param is_whole: whether the log does not grow any more; otherwise an incomplete character at its end, or a
            carriage return, is left out.
        """
        job_id = JobId(job["submission_id"])
        call = RAY.log_of(job_id, job)
        if call is None:
            return
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        try:
            async with self._client.opened(replace(call, read_timeout=LONG_READ_TIMEOUT)) as response:
                status = response.status
                if response.is_success:
                    async for data in response.chunks():
                        yield decoder.decode(data)
                    # If the log grows, what is left in the decoder is read again, and completed, by the next reading.
                    yield decoder.decode(b"", final=is_whole)
                    return
        except RayAgentError as error:
            raise self._error(error) from error
        # Ray's state API rejects calls beyond RAY_STATE_SERVER_MAX_HTTP_REQUEST, by default 100 at a time; that passes.
        if status == 429:
            raise RayUnavailableError(f"Ray at {self.url} has too many requests for logs.")
        # Ray also responds with an error if the log is still empty.
        log = await self.run(Call("GET", f"api/jobs/{job_id}/logs", read_timeout=LONG_READ_TIMEOUT))
        yield str(log.get("logs") or "")

    async def submit_job(self, request: Mapping[str, Any]) -> Row:
        """Submit a job; ``request`` has the fields of Ray's submit call."""
        try:
            job: Row = await self.run(Call("POST", "api/jobs/", body=request, read_timeout=LONG_READ_TIMEOUT))
        except RayResponseError as error:
            if error.status_code == CONFLICT:
                raise RayResponseError(f"Job {request.get('submission_id')} already exists", CONFLICT) from error
            raise
        return job

    async def find_package(self, name: str) -> None:
        """Check that Ray has a package.

        :raises RayResponseError: 404 if it has not.
        """
        await self.run(Call("GET", f"api/packages/gcs/{name}", "nothing"))

    async def upload_package(self, name: str, content: bytes) -> None:
        """Upload a package for runtime environments."""
        body = FileContent(io.BytesIO(content), len(content))
        path = f"api/packages/gcs/{name}"
        await self.run(Call("PUT", path, "nothing", content=body, read_timeout=LONG_READ_TIMEOUT))

    async def _check_control_service(self) -> None:
        try:
            await self._client.send(Call("GET", "api/gcs_healthz", "any"), tries=1)
        except RayAgentServerError as error:
            raise RayUnavailableError(f"Ray at {self.url} reports that its control service (GCS) is down.") from error
        except RayAgentError as error:
            raise self._error(error) from error

    def _error(self, error: RayAgentError) -> LocalAgentError:
        """Return the error for the agent's clients, to whom a status such as 401 would be one of the agent itself."""
        match error:
            case RayAgentHTTPError(status_code=401):
                return self._refusal() or missing_token(self.url)
            # Ray responds with 401 without a token and with 403 to a wrong one.
            case RayAgentHTTPError(status_code=403):
                return self._refusal() or RayResponseError(f"Ray rejects the agent: {error.detail}", 502)
            case RayAgentServerError():
                return RayResponseError(f"Ray failed: {error.detail}", 500)
            case RayAgentHTTPError(status_code=int(status)) if status >= 400:
                return RayResponseError(error.detail, status)
            case RayAgentTimeoutError():
                return RayUnavailableError(error.detail)
            case RayAgentConnectionError():
                return RayUnavailableError(f"Ray does not respond at {self.url}.")
        return RayResponseError(error.detail, 502)

    def _refusal(self) -> RayTokenError | None:
        """Return why Ray rejects the token, ``None`` if there is no token."""
        try:
            token = self._find()
        except RayTokenError as error:
            return error
        return rejected_token(self.url, token) if token else None


def _config(url: str, token: RayToken | None) -> ServiceConfig:
    file = token.file if token else None
    extra = {
        "service": RAY.name,
        "token_file": str(file.absolute()) if file else None,
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
    }
    try:
        # Without a scheme, it would also be the address of a Ray Client server or of the control service.
        config = read_config(
            host=url if "://" in url else None, token=token.value if token and not file else None, extra=extra
        )
    except RayAgentConfigError as error:
        raise LocalAgentError(f"Not the address of a Ray dashboard, such as http://127.0.0.1:8265: {url!r}.") from error
    # Proxies of the environment must not apply to a local dashboard.
    return replace(config, uses_proxies=False)
