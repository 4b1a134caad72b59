"""Limits on request bodies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.json_values import describe_problem
from airflow_provider_rayagent.local.token_check import send_error
from airflow_provider_rayagent.services.submission import MAX_BODY_BYTES
from airflow_provider_rayagent.working_dir.packing import MAX_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_UPLOADS = 2
"""Maximum number of packages that are in memory, from the first byte received to Ray's response."""
PACKAGES_PREFIX = "/packages/"


class BodyLimits:
    """ASGI middleware that rejects bodies that are too large (413) or invalid JSON values (400).

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
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            # What arrives is counted: a chunked body has no Content-Length.
            if len(body) > limit:
                await send_error(scope, send, 413, f"The body is too large: the limit is {limit:,} bytes.")
                return
        if not is_package and (problem := describe_problem(bytes(body))):
            await send_error(scope, send, 400, f"The body {problem}.")
            return
        messages: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_again() -> Message:
            # After the body, a stream waits for the disconnection of its client.
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_again, send)
