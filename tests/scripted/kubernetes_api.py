"""A Kubernetes API server that does what a script says: RayJobs, pods, their logs and Secrets of one namespace.

It does what was measured on a real one with KubeRay's operator: an object with a finalizer stays, with a
``deletionTimestamp``, until a test says that its pods are gone (:meth:`ScriptedKubernetes.finish_deletion`).
"""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections import deque
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

Answer = tuple[int, Any]
"""HTTP status and JSON body."""


class ScriptedKubernetes:
    """An API server on a port of this machine.

    ``requests`` has all requests as ``(method, path, query, body)``. ``failures`` are met first, by verb and resource
    (``"get rayjobs"``): each is an answer, seconds to hang, or a function that is called in the server's thread before
    the usual answer. The usual one is given when none is left.

    :param namespace: the only one that exists.
    :param has_kuberay: whether the kind RayJob exists.
    :param clock_ahead: seconds by which the server's clock is ahead.
    """

    def __init__(self, namespace: str = "ray", *, has_kuberay: bool = True, clock_ahead: float = 0.0) -> None:
        self.namespace = namespace
        self.has_kuberay = has_kuberay
        self.clock_ahead = clock_ahead
        self.rayjobs: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.logs: dict[str, str] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.failures: dict[str, deque[Answer | float | Callable[[], object]]] = {}
        self.requests: list[tuple[str, str, Mapping[str, list[str]], Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self._uids = itertools.count(1)
        self._released = threading.Event()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            # Each connection has one request, so that none keeps a thread of the server alive.
            protocol_version = "HTTP/1.0"

            def handle_any(self) -> None:
                scripted._handle(self)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server's names

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(scripted.now if timestamp is None else timestamp)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._released.is_set():
            return
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def now(self) -> float:
        """The server's clock: seconds since the epoch."""
        return time.time() + self.clock_ahead

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """What a connection of the type ``kubernetes`` has as *Kube config*."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": self.namespace}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "kubernetes-token"}}],
        }

    def verbs(self) -> list[str]:
        """Return verb and resource of each request, as ``failures`` names them."""
        return [_verb(method, path) for method, path, _, _ in self.requests]

    def fail(self, what: str, *answers: Answer | float | Callable[[], object]) -> None:
        """Let the next requests meet these answers."""
        self.failures[what] = deque(answers)

    def set_status(self, name: str, **status: Any) -> None:
        """Replace fields of a RayJob's status, as KubeRay's operator does."""
        self.rayjobs[name].setdefault("status", {}).update(status)

    def run(self, name: str, address: str, cluster: str = "") -> None:
        """Let a RayJob be *Running*."""
        cluster = cluster or f"{name}-abcde"
        self.set_status(
            name, jobDeploymentStatus="Running", jobStatus="PENDING", dashboardURL=address, rayClusterName=cluster
        )

    def finish_deletion(self, name: str) -> None:
        """Let the pods of a deleted RayJob be gone."""
        if "deletionTimestamp" in self.rayjobs[name]["metadata"]:
            del self.rayjobs[name]

    def timestamp(self, ago: float = 0.0) -> str:
        """Return a time in the form of Kubernetes."""
        return datetime.fromtimestamp(self.now - ago, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.requests.append((handler.command, parts.path, parse_qs(parts.query), body))
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        failures = self.failures.get(_verb(handler.command, parts.path))
        failure = failures.popleft() if failures else None
        if isinstance(failure, (int, float)):
            self._released.wait(failure)
            handler.close_connection = True
            return
        if callable(failure):
            failure()
            failure = None
        status, answer = failure or self._answer(handler.command, parts.path, body)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        handler.send_header("Content-Length", str(len(content)))
        if status == 429:
            handler.send_header("Retry-After", "3600")
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, method: str, path: str, body: Any) -> Answer:
        match path.strip("/").split("/"):
            case ["apis", "ray.io", "v1", "namespaces", namespace, "rayjobs", *name] if self.has_kuberay:
                return self._rayjob(method, namespace, name[0] if name else "", body)
            case ["api", "v1", "namespaces", self.namespace, "pods"]:
                return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods}
            case ["api", "v1", "namespaces", self.namespace, "pods", name, "log"] if name in self.logs:
                return 200, self.logs[name]
            case ["api", "v1", "namespaces", self.namespace, "secrets", name] if name in self.secrets:
                data = {key: base64.b64encode(value.encode()).decode() for key, value in self.secrets[name].items()}
                return 200, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "data": data}
            case ["api", "v1", "namespaces", self.namespace, kind, name, *_]:
                return failed(404, "NotFound", f'{kind} "{name}" not found')
        # What the API server says about a kind that does not exist.
        return 404, "404 page not found\n"

    def _rayjob(self, method: str, namespace: str, name: str, body: Any) -> Answer:
        if method == "POST":
            name = body["metadata"]["name"]
            if namespace != self.namespace:
                return failed(404, "NotFound", f'namespaces "{namespace}" not found')
            if name in self.rayjobs:
                return failed(409, "AlreadyExists", f'rayjobs.ray.io "{name}" already exists')
            metadata = {
                **body["metadata"],
                "uid": f"uid-{next(self._uids)}",
                "creationTimestamp": self.timestamp(),
                "finalizers": ["ray.io/rayjob-finalizer"],
            }
            self.rayjobs[name] = {**body, "metadata": metadata}
            return 201, self.rayjobs[name]
        rayjob = self.rayjobs.get(name) if namespace == self.namespace else None
        if rayjob is None:
            return failed(404, "NotFound", f'rayjobs.ray.io "{name}" not found')
        if method == "DELETE":
            uid = (body or {}).get("preconditions", {}).get("uid")
            if uid is not None and uid != rayjob["metadata"]["uid"]:
                text = (
                    f"Precondition failed: UID in precondition: {uid}, UID in object meta: {rayjob['metadata']['uid']}"
                )
                return failed(409, "Conflict", f'Operation cannot be fulfilled on rayjobs.ray.io "{name}": {text}')
            rayjob["metadata"]["deletionTimestamp"] = self.timestamp()
        return 200, rayjob


def failed(status: int, reason: str, message: str) -> Answer:
    """Return an answer in the form of the API server's errors."""
    return status, {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }


def _verb(method: str, path: str) -> str:
    parts = path.strip("/").split("/")
    after = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts
    resource = "/".join(each for each in (after[:1] + after[2:3]))
    verbs = {"POST": "create", "DELETE": "delete", "GET": "get" if len(after) > 1 else "list"}
    return f"{verbs[method]} {resource}"
