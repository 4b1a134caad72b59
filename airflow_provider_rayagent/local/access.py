"""The token: asked for on every path but the description of the API."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client.agent_service import AUTHORIZATION_HEADER
from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = frozenset({"/openapi.json"})
_HEADER = AUTHORIZATION_HEADER.lower().encode()


def check_token(token: str) -> str:
    """Return ``token`` if it can be sent as a header's value.

    :raises LocalAgentError: if it is empty or has other characters than visible ASCII.
    """
    if not token or not all(0x21 <= ord(character) <= 0x7E for character in token):
        raise LocalAgentError("A token is one or more visible ASCII characters, without spaces.")
    return token


class TokenRequired:
    """ASGI middleware that answers 401 to a request, or to a WebSocket's upgrade, without the right token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        given = any(name == _HEADER for name, _ in scope["headers"])
        detail = (
            "The agent token is wrong." if given else f"No agent token: send it in the header {AUTHORIZATION_HEADER}."
        )
        await refuse(scope, send, 401, detail)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            return True
        given = [value for name, value in scope["headers"] if name == _HEADER]
        return len(given) == 1 and hmac.compare_digest(given[0], self._token)


async def refuse(scope: Scope, send: Send, status_code: int, detail: str) -> None:
    """Answer a request, or a WebSocket's upgrade before it is accepted, with ``{"detail": ...}``."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    headers = [(b"content-type", b"application/json")]
    body = json.dumps({"detail": detail}).encode()
    await send({"type": f"{prefix}.response.start", "status": status_code, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})
