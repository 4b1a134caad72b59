"""Limits on request bodies, and redirects without a host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_rayagent.local.json_values import describe_problem
from airflow_provider_rayagent.local.token_check import send_error
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES
from airflow_provider_rayagent.working_dir.packing import MAX_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOADS = 2
"""Maximum number of packages that are in memory, from the first byte received to Ray's response."""
PACKAGES_PREFIX = "/packages/"
BODY_TIMEOUT = 30.0
"""Seconds within which a body must arrive."""


class BodyLimits:
    """ASGI middleware that rejects bodies that are too large (413), too slow (408) or invalid JSON values (400).

    Packages beyond :data:`MAX_UPLOADS` wait before their body is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
        elif scope["path"].startswith(PACKAGES_PREFIX):
            async with self._uploads:
                await self._check_body(scope, receive, send, is_package=True)
        else:
            await self._check_body(scope, receive, send, is_package=False)

    async def _check_body(self, scope: Scope, receive: Receive, send: Send, *, is_package: bool) -> None:
        limit = MAX_BYTES if is_package else MAX_BODY_BYTES
        try:
            body = await asyncio.wait_for(_read_body(receive, limit), BODY_TIMEOUT)
        except asyncio.TimeoutError:
            await send_error(scope, send, 408, f"The body did not arrive within {BODY_TIMEOUT:g} s.")
            return
        except _ClientGoneError:
            return
        if len(body) > limit:
            await send_error(scope, send, 413, f"The body is too large: the limit is {limit:,} bytes.")
            return
        if not is_package and (problem := describe_problem(body)):
            await send_error(scope, send, 400, f"The body {problem}.")
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_again, send)


class _ClientGoneError(Exception):
    pass


async def _read_body(receive: Receive, limit: int) -> bytes:
    """Return the body, truncated soon after the limit."""
    body = bytearray()
    while len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


class RelativeRedirects:
    """ASGI middleware that removes the host from redirects, since it comes from the request's ``Host`` header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_host(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _remove_host(value) if name == b"location" else value) for name, value in message["headers"]
                ]
            await send(message)

        await self._app(scope, receive, send_without_host)


def _remove_host(location: bytes) -> bytes:
    parts = urlsplit(location)
    # A path that begins with two slashes would contain a host.
    path = b"/" + parts.path.lstrip(b"/")
    return path + b"?" + parts.query if parts.query else path
