"""Ray's dashboard, asked over HTTP and WebSocket; nothing here joins the cluster as a driver.

Every call raises :class:`RayUnavailableError` where Ray does not answer and :class:`RayAnswerError` where it refuses.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from airflow_provider_rayagent.client.agent_service import AUTHORIZATION_HEADER
from airflow_provider_rayagent.client.ray_answers import plain_words
from airflow_provider_rayagent.local.errors import LocalAgentError, RayAnswerError, RayUnavailableError
from airflow_provider_rayagent.local.json_values import read_tolerantly
from airflow_provider_rayagent.local.ray_token import RayCredentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    import httpx
    from websockets.asyncio.client import ClientConnection

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
"""Seconds; under the 10 s that the agent's client waits for an answer."""
LONG_READ_TIMEOUT = 60.0
"""Seconds for calls whose answer may be large or slow: a submission, a stop, a piece of a log."""
WHOLE_LOG_SECONDS = 290
"""Ray's deadline for giving a log; it ends every request after 300 s."""
MAX_REQUESTS = 50
"""Most requests at a time. It is less than the connections of the client, which loses one now and then where requests
wait for them."""
MAX_LOG_READS = 4
"""Most whole logs that are read at a time."""
MAX_ROWS = 10_000
"""Most rows that Ray's state API gives."""
MAX_WORDS = 500
"""Characters of Ray's words in an error."""
# Ray itself ends a tail at messages over 4 MB.
MAX_TAIL_MESSAGE = 16 * 1024 * 1024

Row = dict[str, Any]


class RayDashboard:
    """A client of one Ray dashboard.

    :param url: address of the dashboard, ``http://host:port``.
    :param credentials: the token, for a Ray that asks for one.
    """

    def __init__(self, url: str, credentials: RayCredentials | None = None) -> None:
        import httpx

        self.url = check_dashboard_url(url)
        self.credentials = credentials or RayCredentials(lambda: None)
        # Proxy settings of the environment are for the world, not for a loopback address.
        self._http = httpx.AsyncClient(base_url=self.url, trust_env=False)
        self._places = asyncio.Semaphore(MAX_REQUESTS)
        self.log_reads = asyncio.Semaphore(MAX_LOG_READS)
        """To be held while a whole log is read."""
        self._exchanges: set[asyncio.Task[httpx.Response]] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def version(self) -> Row:
        """Return Ray's ``{"ray_version", "session_name", ...}``."""
        return _object(await self._json("GET", "/api/version"))

    async def health(self) -> Row:
        """Return what :meth:`version` does, once Ray's control service (GCS) has answered too."""
        version, _ = await asyncio.gather(self.version(), self._request("GET", "/api/gcs_healthz"))
        return version

    async def list_jobs(self) -> list[Row]:
        """Return all jobs as Ray lists them, drivers included."""
        return _rows(await self._json("GET", "/api/jobs/"))

    async def get_job(self, job_id: str) -> Row:
        """Return Ray's details of one job, by its submission id or its job id."""
        return _object(await self._json("GET", f"/api/jobs/{quote(job_id, safe='')}"))

    async def log_text(self, job_id: str) -> AsyncGenerator[str, None]:
        """Yield all that the job has logged so far, piece by piece, with its newlines as Ray's live log has them.

        What is not UTF-8 is replaced by U+FFFD. The task that reads it must not be cancelled but where all ends: the
        client's pool of connections does not bear that.
        """
        job = await self.get_job(job_id)
        node_id = job.get("driver_node_id")
        if not job.get("submission_id"):
            raise RayAnswerError("Can only get logs of submission type jobs", 400)
        if not node_id:
            # The job has not begun, or never did.
            return
        query = {"node_id": node_id, "filename": f"job-driver-{job['submission_id']}.log"}
        query |= {"lines": "-1", "timeout": str(WHOLE_LOG_SECONDS)}
        response = await self._exchange("GET", "/api/v0/logs/file", query=query, timeout=LONG_READ_TIMEOUT, stream=True)
        async with contextlib.aclosing(response):
            if response.status_code == 429:
                raise RayUnavailableError(f"Ray at {self.url} has too many requests for logs.")
            if not response.is_success:
                # Ray says so too where nothing was logged yet.
                yield await self._short_log(job_id)
                return
            decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
            with self._named_errors():
                async for data in response.aiter_bytes():
                    yield decoder.decode(data)
            yield decoder.decode(b"", final=True)

    async def _short_log(self, job_id: str) -> str:
        answer = await self._json("GET", f"/api/jobs/{quote(job_id, safe='')}/logs", timeout=LONG_READ_TIMEOUT)
        return str(_object(answer).get("logs") or "")

    async def submit_job(self, request: Mapping[str, Any]) -> Row:
        """Submit a job; ``request`` has the fields of Ray's own submit call."""
        try:
            return _object(await self._json("POST", "/api/jobs/", body=request, timeout=LONG_READ_TIMEOUT))
        except RayAnswerError as error:
            # Ray says 500 to an id that is taken.
            if "already exists" in str(error):
                raise RayAnswerError(f"Job {request.get('submission_id')} already exists", 409) from error
            raise

    async def stop_job(self, job_id: str) -> Row:
        """Ask Ray to stop a job; return ``{"stopped": bool}``."""
        path = f"/api/jobs/{quote(job_id, safe='')}/stop"
        return _object(await self._json("POST", path, timeout=LONG_READ_TIMEOUT))

    @contextlib.asynccontextmanager
    async def tail_job_logs(self, job_id: str) -> AsyncIterator[ClientConnection]:
        """Open Ray's live log of a job: text messages from the first byte on, each a chunk of the log."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        parts = urlsplit(self.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = f"/api/jobs/{quote(job_id, safe='')}/logs/tail"
        url = f"{scheme}://{parts.netloc}{parts.path}{path}"
        headers = self.credentials.headers()
        try:
            # Ray never reads from this socket while it sends, so it answers no pings.
            connection = await connect(
                url,
                # With a host that was named, no redirect to another one is followed, and the token does not go there.
                host=parts.hostname,
                port=parts.port or (443 if scheme == "wss" else 80),
                additional_headers=headers,
                compression=None,
                ping_interval=None,
                open_timeout=READ_TIMEOUT,
                close_timeout=1,
                max_size=MAX_TAIL_MESSAGE,
                max_queue=4,
                proxy=None,
            )
        except InvalidStatus as error:
            body = bytes(error.response.body or b"").decode("utf-8", "replace")
            raise self._answer_error(path, error.response.status_code, body, headers) from error
        except (OSError, ValueError, WebSocketException) as error:
            raise RayUnavailableError(f"Ray at {self.url} does not open its live log: {error}") from error
        try:
            yield connection
        finally:
            await connection.close()

    async def list_nodes(self) -> list[Row]:
        """Return all nodes, dead ones included, with their resources."""
        return await self._state("nodes", detail="1")

    async def get_node(self, node_id: str) -> Row | None:
        """Return one node, or ``None``."""
        rows = await self._with_id("nodes", "node_id", node_id)
        return rows[0] if rows else None

    async def list_tasks(self) -> list[Row]:
        """Return the tasks that Ray still remembers, at most :data:`MAX_ROWS`."""
        return await self._state("tasks")

    async def get_task(self, task_id: str) -> Row | None:
        """Return the last attempt of one task, in detail, or ``None``."""
        rows = await self._with_id("tasks", "task_id", task_id)
        return max(rows, key=lambda row: row.get("attempt_number") or 0, default=None)

    async def resource_usage(self) -> dict[str, Row] | None:
        """Return ``{node_id: {resource: [used, total]}}``, or ``None`` where Ray does not report it."""
        answer: Any = await self._json("GET", "/api/cluster_status")
        for key in ("data", "clusterStatus", "loadMetricsReport", "usageByNode"):
            answer = answer.get(key) if isinstance(answer, dict) else None
        return answer if isinstance(answer, dict) else None

    async def list_serve_applications(self) -> list[Row]:
        """Return Serve's applications; none if Serve is not running."""
        answer = _object(await self._json("GET", "/api/serve/applications/"))
        return [{"name": name, **details} for name, details in (answer.get("applications") or {}).items()]

    async def get_serve_application(self, name: str) -> Row | None:
        """Return one Serve application, or ``None``."""
        return next((app for app in await self.list_serve_applications() if app["name"] == name), None)

    async def _with_id(self, resource: str, column: str, value: str) -> list[Row]:
        filters = {"filter_keys": column, "filter_predicates": "=", "filter_values": value}
        try:
            return await self._state(resource, detail="1", **filters)
        except RayAnswerError as error:
            # Ray refuses to look for an id that is not of its own form; then nothing has it.
            if error.status_code == 400:
                return []
            raise

    async def _state(self, resource: str, **parameters: str) -> list[Row]:
        query = {"limit": str(MAX_ROWS), "timeout": str(int(READ_TIMEOUT) - 1), **parameters}
        answer: Any = await self._json("GET", f"/api/v0/{resource}", query=query)
        for key in ("data", "result", "result"):
            answer = answer.get(key) if isinstance(answer, dict) else None
        return _rows(answer)

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Any:
        return _parse(await self._request(method, path, query=query, body=body, timeout=timeout))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> httpx.Response:
        response = await self._exchange(method, path, query=query, body=body, timeout=timeout)
        if response.status_code >= 500 and not path.endswith("gcs_healthz"):
            # With its control service gone the dashboard still answers, with 500 to everything.
            await self._request("GET", "/api/gcs_healthz")
        if response.is_success:
            return response
        if path.endswith("gcs_healthz") and response.status_code not in (401, 403):
            raise RayUnavailableError(f"Ray at {self.url} says that its control service (GCS) is down.")
        raise self._answer_error(path, response.status_code, response.text, response.request.headers)

    def _answer_error(self, path: str, status_code: int, text: str, sent: Mapping[str, str]) -> RayAnswerError:
        if status_code == 401 or (status_code == 403 and AUTHORIZATION_HEADER in sent):
            return self.credentials.refusal(self.url)
        words = plain_words(text, MAX_WORDS) or "no reason given"
        if status_code == 403:
            # Passed on as it is, it would read as if the agent's own token were wrong.
            return RayAnswerError(f"Ray refuses the agent (403): {words}", 502)
        if status_code >= 500:
            return RayAnswerError(f"Ray failed ({status_code}) at {path}: {words}", 500)
        return RayAnswerError(words, status_code)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout: float,
        stream: bool = False,
    ) -> httpx.Response:
        """Send a request, again with the token if Ray asks for it, and return the answer, whatever its status."""
        import httpx

        limits = httpx.Timeout(timeout, connect=CONNECT_TIMEOUT, pool=None)

        async def send() -> httpx.Response:
            headers = self.credentials.headers()
            request = self._http.build_request(method, path, params=query, json=body, headers=headers, timeout=limits)
            return await self._uninterrupted(request, timeout, stream=stream)

        response = await send()
        if response.status_code == 401 and AUTHORIZATION_HEADER not in response.request.headers:
            await response.aclose()
            # Ray refuses before it does anything, so that even a submission can be sent again.
            self.credentials.asked = True
            response = await send()
        return response

    async def _uninterrupted(self, request: httpx.Request, timeout: float, *, stream: bool) -> httpx.Response:
        """Send a request, which goes on within its timeouts if its caller is cancelled.

        httpcore loses a connection's place in its pool, for good, if a request is cancelled just as it gets one
        (``AsyncConnectionPool.handle_async_request`` of 1.0.9).
        """
        import anyio

        async def send() -> httpx.Response:
            try:
                return await self._http.send(request, stream=stream)
            finally:
                self._places.release()

        try:
            with anyio.fail_after(timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise RayUnavailableError(f"Ray at {self.url} has too many requests to answer.") from error
        exchange = asyncio.ensure_future(send())
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchange_done)
        with self._named_errors():
            return await asyncio.shield(exchange)

    def _exchange_done(self, exchange: asyncio.Task[httpx.Response]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            # Else asyncio tells of an error that nobody waited for.
            exchange.exception()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.TimeoutException as error:
            raise RayUnavailableError(f"Ray at {self.url} did not answer in time.") from error
        except httpx.HTTPError as error:
            raise RayUnavailableError(f"Ray does not answer at {self.url}: {error or type(error).__name__}") from error


def check_dashboard_url(url: str) -> str:
    """Return the address of a dashboard without its trailing slash.

    :raises LocalAgentError: if it is not an ``http://`` or ``https://`` address, or its port is no port.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise LocalAgentError(f"The address of a Ray dashboard looks like http://127.0.0.1:8265, not {url!r}.")
    return url.rstrip("/")


def _parse(response: httpx.Response) -> Any:
    try:
        return read_tolerantly(response.content)
    except (ValueError, RecursionError) as error:
        raise RayAnswerError(f"Ray answered {response.request.url.path} with something else than JSON.", 502) from error


def _object(answer: Any) -> Row:
    if not isinstance(answer, dict):
        raise RayAnswerError("Ray's answer is not a JSON object.", 502)
    return cast("Row", answer)


def _rows(answer: Any) -> list[Row]:
    if not isinstance(answer, list):
        raise RayAnswerError("Ray's answer is not a list.", 502)
    return cast("list[Row]", answer)
