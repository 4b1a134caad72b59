"""Client of Ray's dashboard over HTTP, which does not join the cluster as a driver.

Every call raises :class:`RayUnavailableError` if Ray does not respond, and :class:`RayAnswerError` if it rejects the
request or fails.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentError,
    RayAgentResponseError,
)
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import read_tolerantly
from airflow_provider_rayagent.local.ray_token import RayCredentials
from airflow_provider_rayagent.services.agent_service import AUTHORIZATION_HEADER
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.ray_answers import is_id_taken, plain_words
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.services.service import REJECTED
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.steps import run_steps_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    import httpx

    from airflow_provider_rayagent.services.call import Operation, Pause

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
"""Seconds; less than the 10 s that the agent's client waits for a response."""
LONG_READ_TIMEOUT = 60.0
"""Seconds for calls with a large or slow response: a submission, a stop, a chunk of a log."""
MAX_REQUESTS = 50
"""Maximum number of concurrent requests. It is below the size of the client's connection pool, which may leak a
connection when requests wait for one."""
MAX_WORDS = 500
"""Maximum length of Ray's own error text in an error."""

Row = dict[str, Any]


class RayDashboard:
    """Client of one Ray dashboard.

    :param url: address of the dashboard, ``http://host:port``.
    :param credentials: provides the token if Ray requires one.
    """

    def __init__(self, url: str, credentials: RayCredentials | None = None) -> None:
        import httpx

        self.url = check_dashboard_url(url)
        self.credentials = credentials or RayCredentials(lambda: None)
        # Proxy settings of the environment must not apply to a local dashboard.
        self._http = httpx.AsyncClient(base_url=self.url, trust_env=False)
        self._places = asyncio.Semaphore(MAX_REQUESTS)
        self._exchanges: set[asyncio.Task[httpx.Response]] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def version(self) -> Row:
        """Return Ray's ``{"ray_version", "session_name", ...}``."""
        return _object(await self._json("GET", "/api/version"))

    async def health(self) -> Row:
        """Return the result of :meth:`version` after checking that Ray's control service (GCS) responds too."""
        version, _ = await asyncio.gather(self.version(), self._request("GET", "/api/gcs_healthz"))
        return version

    async def list_jobs(self) -> list[Row]:
        """Return all jobs as Ray lists them, including drivers."""
        jobs: list[Row] = await self.run(RAY.list_jobs())
        return jobs

    async def get_job(self, job_id: str) -> Row:
        """Return Ray's details of one job, by its submission id or its job id."""
        job: Row = await self.run(RAY.get_job(JobId(job_id)))
        return job

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
        response = await self._exchange("GET", f"/{call.path}", timeout=LONG_READ_TIMEOUT, stream=True)
        async with contextlib.aclosing(response):
            if response.status_code == 429:
                raise RayUnavailableError(f"Ray at {self.url} has too many requests for logs.")
            if not response.is_success:
                # Ray also responds with an error if the log is still empty.
                yield await self._short_log(job_id)
                return
            decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
            with self._named_errors():
                async for data in response.aiter_bytes():
                    yield decoder.decode(data)
            yield decoder.decode(b"", final=is_whole)

    async def _short_log(self, job_id: str) -> str:
        answer = await self._json("GET", f"/api/jobs/{quote(job_id, safe='')}/logs", timeout=LONG_READ_TIMEOUT)
        return str(_object(answer).get("logs") or "")

    async def submit_job(self, request: Mapping[str, Any]) -> Row:
        """Submit a job; ``request`` has the fields of Ray's submit call."""
        try:
            return _object(await self._json("POST", "/api/jobs/", body=request, timeout=LONG_READ_TIMEOUT))
        except RayAnswerError as error:
            if is_id_taken(str(error)):
                raise RayAnswerError(f"Job {request.get('submission_id')} already exists", CONFLICT) from error
            raise

    async def find_package(self, name: str) -> None:
        """Check that Ray has a package.

        :raises RayAnswerError: 404 if it has not.
        """
        await self._request("GET", f"/api/packages/gcs/{name}")

    async def upload_package(self, name: str, content: bytes) -> None:
        """Upload a package for runtime environments."""
        await self._request("PUT", f"/api/packages/gcs/{name}", body=content, timeout=LONG_READ_TIMEOUT)

    async def stop_job(self, job_id: str) -> Row:
        """Request the stop of a job; return ``{"stopped": bool}``."""
        answer: Row = await self.run(RAY.stop_job(JobId(job_id)))
        return answer

    async def list_nodes(self) -> list[Row]:
        """Return all nodes, including dead ones, with their resources."""
        nodes: list[Row] = await self.run(RAY.list_nodes())
        return nodes

    async def run(self, operation: Operation) -> Any:
        """Return the result of an operation of :data:`RAY`.

        :raises RayAgentNotFoundError: if Ray does not have what was requested.
        """
        if isinstance(operation, Call):
            return await self._call(operation)
        return await run_steps_async(operation, self._step, (RayAgentError, LocalAgentError))

    async def _step(self, step: Call | Pause) -> Any:
        return await (self._call(step) if isinstance(step, Call) else asyncio.sleep(step.seconds))

    async def _call(self, call: Call) -> Any:
        timeout = LONG_READ_TIMEOUT if call.method == "POST" else READ_TIMEOUT
        answer = await self._json(call.method, f"/{call.path}", body=call.body, timeout=timeout)
        value = _rows(answer) if call.shape == "list" else _object(answer)
        try:
            return value if call.convert is None else call.convert(value)
        except RayAgentResponseError as error:
            raise RayAnswerError(error.detail, 502) from error

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Any:
        return _parse(await self._request(method, path, body=body, timeout=timeout))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> httpx.Response:
        response = await self._exchange(method, path, body=body, timeout=timeout)
        if response.status_code >= 500 and not path.endswith("gcs_healthz"):
            # If the control service is down, the dashboard responds with 500 to everything.
            await self._request("GET", "/api/gcs_healthz")
        if response.is_success:
            return response
        if path.endswith("gcs_healthz") and response.status_code not in REJECTED:
            raise RayUnavailableError(f"Ray at {self.url} reports that its control service (GCS) is down.")
        raise self._answer_error(path, response.status_code, response.text, response.request.headers)

    def _answer_error(self, path: str, status_code: int, text: str, sent: Mapping[str, str]) -> RayAnswerError:
        if status_code == 401 or (status_code == 403 and AUTHORIZATION_HEADER in sent):
            return self.credentials.refusal(self.url)
        words = plain_words(text, MAX_WORDS) or "no reason given"
        if status_code == 403:
            # 403 would suggest that the agent token is wrong.
            return RayAnswerError(f"Ray rejects the agent (403): {words}", 502)
        if status_code >= 500:
            return RayAnswerError(f"Ray failed ({status_code}) at {path.partition('?')[0]}: {words}", 500)
        return RayAnswerError(words, status_code)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        timeout: float,
        stream: bool = False,
    ) -> httpx.Response:
        """Send a request, a second time with the token if Ray requires it; return the response with any status."""
        import httpx

        limits = httpx.Timeout(timeout, connect=CONNECT_TIMEOUT, pool=None)

        async def send() -> httpx.Response:
            headers = self.credentials.headers()
            content = {"content": body} if isinstance(body, bytes) else {"json": body}
            request = self._http.build_request(method, path, headers=headers, timeout=limits, **content)
            return await self._uninterrupted(request, stream=stream)

        response = await send()
        if response.status_code == 401 and AUTHORIZATION_HEADER not in response.request.headers:
            await response.aclose()
            # Ray checks the token before anything else, so even a submission can be sent again.
            self.credentials.asked = True
            response = await send()
        return response

    async def _uninterrupted(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Send a request, which continues until it is done or times out even if its caller is cancelled.

        httpcore permanently loses a connection of its pool if a request is cancelled just as it acquires one
        (``AsyncConnectionPool.handle_async_request`` of 1.0.9).
        """
        import anyio

        async def send() -> httpx.Response:
            try:
                return await self._http.send(request, stream=stream)
            finally:
                self._places.release()

        try:
            with anyio.fail_after(READ_TIMEOUT):
                await self._places.acquire()
        except TimeoutError as error:
            raise RayUnavailableError(f"Ray at {self.url} has too many pending requests.") from error
        exchange = asyncio.ensure_future(send())
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchange_done)
        with self._named_errors():
            return await asyncio.shield(exchange)

    def _exchange_done(self, exchange: asyncio.Task[httpx.Response]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            # Retrieve the exception; otherwise asyncio logs it.
            exchange.exception()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.TimeoutException as error:
            raise RayUnavailableError(f"Ray at {self.url} did not respond in time.") from error
        except httpx.HTTPError as error:
            raise RayUnavailableError(f"Ray does not respond at {self.url}: {error or type(error).__name__}") from error


def check_dashboard_url(url: str) -> str:
    """Return the address of a dashboard without a trailing slash.

    :raises LocalAgentError: if it is not an ``http://`` or ``https://`` address, or its port is invalid.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise LocalAgentError(f"Not the address of a Ray dashboard, such as http://127.0.0.1:8265: {url!r}.")
    return url.rstrip("/")


def _parse(response: httpx.Response) -> Any:
    try:
        return read_tolerantly(response.content)
    except (ValueError, RecursionError) as error:
        raise RayAnswerError(f"Ray's response to {response.request.url.path} is not JSON.", 502) from error


def _object(answer: Any) -> Row:
    if not isinstance(answer, dict):
        raise RayAnswerError("Ray's response is not a JSON object.", 502)
    return cast("Row", answer)


def _rows(answer: Any) -> list[Row]:
    if not isinstance(answer, list):
        raise RayAnswerError("Ray's response is not a list.", 502)
    return cast("list[Row]", answer)
