"""A stub of Ray's dashboard on a real socket, for behavior that cannot be produced with a real Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request


class StubRay:
    """Responses of a dashboard.

    :ivar jobs: details of the jobs by id.
    :ivar log: log of every job.
    :ivar token: what requests about jobs must have in their header, which is repeated in a refusal, as by a proxy.
    :ivar authorizations: the headers that these requests had.
    :ivar answers: status and body by path, instead of the usual response.
    :ivar breaks_off: whether to abort whole logs before their end.
    :ivar delay: seconds before a response about jobs.
    :ivar log_reads: number of whole logs that were requested.
    :ivar busiest: maximum number of concurrent requests about jobs.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.log = b""
        self.token: str | None = None
        self.authorizations: list[str | None] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.breaks_off = False
        self.delay = 0.0
        self.log_reads = self.busiest = 0
        self.url = ""
        self._in_hand = 0

    def add_job(self, job_id: str, status: str = "SUCCEEDED", **details: Any) -> None:
        """Add a job."""
        job = {"type": "SUBMISSION", "submission_id": job_id, "status": status, "driver_node_id": "ab", "start_time": 1}
        self.jobs[job_id] = {**job, **details}

    async def answer(self, request: Request) -> Response:
        """Respond to a request."""
        path = request.url.path
        if path in self.answers:
            status, body = self.answers[path]
            return Response(body, status, media_type="application/json")
        if path == "/api/gcs_healthz":
            return Response("success")
        if path == "/api/version":
            return _json({"ray_version": "2.60.0", "session_name": "stub"})
        authorization = request.headers.get("authorization")
        self.authorizations.append(authorization)
        if self.token is not None and authorization != f"Bearer {self.token}":
            return Response(f"Forbidden: {authorization}", 403 if authorization else 401)
        self._in_hand += 1
        self.busiest = max(self.busiest, self._in_hand)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self._in_hand -= 1
        if path == "/api/jobs/":
            return await self._submit(request) if request.method == "POST" else _json(list(self.jobs.values()))
        job = self.jobs.get(path.split("/")[3])
        return _json(job) if job else Response("Job does not exist", 404)

    async def give_log(self, request: Request) -> Response:
        """Respond with the whole log."""
        self.log_reads += 1
        if request.url.path in self.answers:
            return await self.answer(request)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(self.log), 65_536):
                yield self.log[start : start + 65_536]
                await asyncio.sleep(0)
            if self.breaks_off:
                raise ConnectionAbortedError

        return StreamingResponse(pieces(), media_type="text/plain")

    async def _submit(self, request: Request) -> Response:
        body = await request.json()
        self.add_job(body["submission_id"], "PENDING", **{key: body.get(key) for key in ("entrypoint", "metadata")})
        return _json({"job_id": body["submission_id"], "submission_id": body["submission_id"]})


@contextlib.contextmanager
def stub_ray() -> Iterator[StubRay]:
    """Serve a stub on a free port."""
    ray = StubRay()
    routes = [
        Route("/api/v0/logs/file", ray.give_log),
        Route("/{path:path}", ray.answer, methods=["GET", "POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise AssertionError("the stub did not start")
        ray.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield ray
    finally:
        server.should_exit = True
        thread.join()


def _json(value: Any) -> Response:
    return Response(json.dumps(value), media_type="application/json")
