"""The files of the page on a server whose routes a test answers: with a 502, or with a log that begins anew."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_provider_rayagent.ui.app import FILES, HEADERS, MEDIA_TYPES
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

PAGES = {"": "index.html", "task": "task.html"}


@dataclass(frozen=True)
class Request:
    """A request of the page."""

    method: str
    path: str
    query: Mapping[str, list[str]]


@dataclass(frozen=True)
class Failure:
    """An answer with an error status.

    :param detail: text of the answer's ``detail``; ``None``: the answer is not JSON, as that of a proxy.
    """

    status: int
    detail: str | None = None


UNFINISHED = object()
"""An answer that never ends."""


class PageServer:
    """A server with ``answers`` by path below ``api/``.

    An answer is a value for JSON, a :class:`Failure`, :data:`UNFINISHED`, or a function that returns one of them for a
    :class:`Request`. What has no answer is a 404.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._server = _Listener(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, path: str, method: str = "GET") -> list[Request]:
        """Return the requests so far of a path below ``api/``."""
        return [each for each in tuple(self.requests) if (each.method, each.path) == (method, path)]

    def wait_for_more(self, path: str, number: int) -> None:
        """Wait until the page has requested a path so often again."""
        enough = len(self.of(path)) + number
        wait_until(lambda: len(self.of(path)) >= enough or None, lambda: f"the page does not request {path}")


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, page: PageServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = page


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        path = unquote(url.path).lstrip("/")
        if path.startswith("api/"):
            request = Request(self.command, path[4:], parse_qs(url.query))
            self.server.page.requests.append(request)
            self._answer(request)
            return
        file = FILES / PAGES.get(path, path.removeprefix("static/"))
        if file.is_file():
            self._send(200, MEDIA_TYPES.get(file.suffix, "text/html"), file.read_bytes())
        else:
            self._send(404, "text/plain", b"")

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, request: Request) -> None:
        answer = self.server.page.answers.get(request.path, Failure(404))
        if callable(answer):
            answer = answer(request)
        if answer is UNFINISHED:
            self._begin(200, "application/json", {"Content-Length": "100"})
            self.wfile.write(b"{")
            self.server.page.closing.wait()
        elif not isinstance(answer, Failure):
            self._send(200, "application/json", json.dumps(answer).encode())
        elif answer.detail is None:
            self._send(answer.status, "text/html", b"<html></html>")
        else:
            self._send(answer.status, "application/json", json.dumps({"detail": answer.detail}).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self._begin(status, content_type, {"Content-Length": str(len(body))})
        with suppress(ConnectionError):
            self.wfile.write(body)

    def _begin(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": content_type, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def log_part(*lines: str, after: str = "1", **fields: Any) -> dict[str, Any]:
    """Return a part of a log, with these lines of a job."""
    rows = [["info", line, True] for line in lines]
    part = {"rows": rows, "after": after, "restart": False, "skipped": 0, "more": False, "reported": None, "end": None}
    return {**part, **fields}


def job(status: str = "RUNNING", **details: Any) -> dict[str, Any]:
    """Return the details of a job as the routes have them."""
    return {
        "job_id": "j1",
        "status": status,
        "openable": True,
        "entrypoint": "python train.py",
        "start_time": None,
        "end_time": None,
        "duration": None,
        "metadata": {},
        "reason": None,
        **details,
    }


def page_of(*jobs: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    """Return a part of the list of jobs."""
    counts = dict.fromkeys(("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "OTHER"), 0)
    return {"jobs": jobs, "total": len(jobs) if total is None else total, "counts": counts}
