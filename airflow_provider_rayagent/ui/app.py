"""The ASGI application of the page, which the API server mounts.

Every route has an access dependency; see :mod:`airflow_provider_rayagent.ui.access`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.ui import routes, task_routes
from airflow_provider_rayagent.ui.access import SIGNED_IN

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

FILES = Path(__file__).parent / "static"
# Not from `mimetypes`, which reads tables of the system: a browser runs a module only with a JavaScript type.
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# `frame-ancestors` and `X-Frame-Options` must permit Airflow, which shows the page in a frame of its own origin.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
_STATUSES = {RayAgentInputError: 400, RayAgentNotFoundError: 404, RayAgentUnsupportedError: 501}
"""Statuses of errors; every other one is 502, also if the service rejects the token: the user's own one is valid."""


def create_app() -> ASGIApp:
    """Return the application."""
    # FastAPI's own pages would be routes without an access dependency.
    app = FastAPI(title="Ray", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(RayAgentError, _describe)
    app.add_api_route("/", _page("index.html"), dependencies=SIGNED_IN)
    app.add_api_route("/task", _page("task.html"), dependencies=SIGNED_IN)
    app.add_api_route("/static/{name}", static_file, dependencies=SIGNED_IN)
    # Newer versions of FastAPI nest the routes of an included router. One list shows that each has its dependency.
    app.router.routes.extend((*routes.router.routes, *task_routes.router.routes))
    # Not one of its middleware, which the response to an unexpected error does not pass
    # (`Starlette.build_middleware_stack`).
    return WithHeaders(app)


class WithHeaders:
    """Add the security headers to every response of an application."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Scope) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    # After an upgrade, a script from the browser's cache would not fit the new routes.
                    message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        await self.app(scope, receive, send_with_headers)


def static_file(name: str) -> FileResponse:
    """Return a file of the page.

    :raises HTTPException: 404 if there is no such file.
    """
    # The name is compared and never part of a path, so it cannot lead out of the folder.
    found = {path.name: path for path in FILES.iterdir() if path.suffix in MEDIA_TYPES}.get(name)
    if found is None:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(found, media_type=MEDIA_TYPES[found.suffix])


def _page(name: str) -> Callable[[], FileResponse]:
    def page() -> FileResponse:
        return FileResponse(FILES / name, media_type="text/html")

    return page


def _describe(_: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 502)
    return JSONResponse({"detail": str(error)}, status)
