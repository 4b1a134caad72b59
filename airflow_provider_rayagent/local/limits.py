"""Bounds on the bodies of requests, and redirects that stay here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_rayagent.local.access import refuse
from airflow_provider_rayagent.local.json_values import fault_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20
"""Most bytes of a request's body: Ray takes no longer submission."""
BODY_SECONDS = 30.0
"""For a body to come."""


class BodyLimits:
    """ASGI middleware that refuses bodies that are too long (413) or too slow (408), and JSON that is none (400)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
        except asyncio.TimeoutError:
            await refuse(scope, send, 408, f"The body did not come within {BODY_SECONDS:g} s.")
            return
        except _ClientGoneError:
            return
        if len(body) > MAX_BODY:
            await refuse(scope, send, 413, f"The body is too long: the local agent takes {MAX_BODY:,} bytes.")
            return
        if fault := fault_of(body):
            await refuse(scope, send, 400, f"The body {fault}.")
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, receive_again, send)


class _ClientGoneError(Exception):
    pass


async def _body(receive: Receive) -> bytes:
    """Return the body, or of one that is too long so much that it can be seen."""
    body = bytearray()
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


class OwnRedirects:
    """ASGI middleware that leaves the host out of redirects; it would be the one that the request names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _path_of(value) if name == b"location" else value) for name, value in message["headers"]
                ]
            await send(message)

        await self._app(scope, receive, send_on)


def _path_of(location: bytes) -> bytes:
    parts = urlsplit(location)
    # Two slashes at the beginning would name a host.
    path = b"/" + parts.path.lstrip(b"/")
    return path + b"?" + parts.query if parts.query else path
