"""Check of the agent token, which every path requires except the API description."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.services.agent_service import AUTHORIZATION_HEADER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PUBLIC_PATHS = frozenset({"/openapi.json"})
# ASGI servers pass names of headers in lower case.
_HEADER = AUTHORIZATION_HEADER.lower().encode()


def check_token(token: str) -> str:
    """Return ``token`` if it is valid as a header value.

    :raises LocalAgentError: if it is empty or contains anything but visible ASCII characters.
    """
    if not token or not all(0x21 <= ord(character) <= 0x7E for character in token):
        raise LocalAgentError("A token must consist of visible ASCII characters, without spaces.")
    return token


# Not Starlette's BaseHTTPMiddleware, which passes WebSocket handshakes on unseen.
class TokenMiddleware:
    """ASGI middleware that responds with 401 to a request or WebSocket handshake without the right token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_allowed(scope):
            await self._app(scope, receive, send)
            return
        has_token = any(name == _HEADER for name, _ in scope["headers"])
        detail = (
            "The agent token is wrong."
            if has_token
            else f"No agent token: send it in the header {AUTHORIZATION_HEADER}."
        )
        await send_error(scope, send, 401, detail)

    def _is_allowed(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["path"] in PUBLIC_PATHS:
            return True
        tokens = [value for name, value in scope["headers"] if name == _HEADER]
        return len(tokens) == 1 and hmac.compare_digest(tokens[0], self._token)


async def send_error(scope: Scope, send: Send, status_code: int, detail: str) -> None:
    """Respond to a request, or to a WebSocket handshake, with an error: ``{"detail": ...}``."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        # A close before the accept makes the server refuse the handshake with 403 (ASGI specification).
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    prefix = "websocket.http" if scope["type"] == "websocket" else "http"
    headers = [(b"content-type", b"application/json")]
    body = json.dumps({"detail": detail}).encode()
    await send({"type": f"{prefix}.response.start", "status": status_code, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})
