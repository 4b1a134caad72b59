"""Name what the transport libraries raise: which error of ours stands for it, in words."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from airflow_provider_rayagent.agent.config import field_name
from airflow_provider_rayagent.agent.errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentConnectionRefusedError,
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentNameResolutionError,
    RayAgentTimeoutError,
    RayAgentTLSError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.agent.config import AgentConfig


def as_agent_error(error: BaseException, config: AgentConfig) -> RayAgentError:
    """Return the error of our tree for one that ``requests``, ``websocket-client`` or the socket raised."""
    if isinstance(error, RayAgentError):
        return error
    where = config.base_url
    names = {type(cause).__name__ for cause in _causes(error)}
    causes = tuple(_causes(error))
    words = config.redact(str(causes[-1]) or type(causes[-1]).__name__)[:200]
    if names & {"InvalidURL", "InvalidHeader", "InvalidSchema", "MissingSchema", "LocationParseError"}:
        return RayAgentConfigError(f"The connection cannot be used: {words}")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return RayAgentNameResolutionError(f"The host name in {where} is not known: check the {field_name('host')}.")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return RayAgentTLSError(f"No TLS with {where}: {words}. {_tls_remedy(words)}")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return RayAgentConnectionRefusedError(
            f"Nothing listens at {where}: check {field_name('host')} and port; does the agent run?"
        )
    if any("handshake operation timed out" in str(cause) for cause in causes):
        return RayAgentConnectTimeoutError(
            f"No TLS handshake with {where} within {config.connect_timeout:g} seconds: does TLS (https) belong there?"
        )
    if names & {"ConnectTimeout", "ConnectTimeoutError"}:
        return RayAgentConnectTimeoutError(
            f"No connection to {where} within {config.connect_timeout:g} seconds: check {field_name('host')} and port; "
            "is a firewall in between?"
        )
    if names & {"ReadTimeout", "ReadTimeoutError", "WebSocketTimeoutException", "TimeoutError"}:
        return RayAgentTimeoutError(f"No answer from {where} within {config.read_timeout:g} seconds.")
    if isinstance(error, FileNotFoundError) or "Could not find" in words:
        return RayAgentConfigError(f"The connection's CA bundle or client certificate cannot be read: {words}")
    return RayAgentConnectionError(f"The connection to {where} failed: {words}")


def _tls_remedy(words: str) -> str:
    bundle = field_name("ca_bundle")
    remedies = {
        "mismatch": f"Enter the name that the agent's certificate is for as {field_name('host')}.",
        "expired": "The agent needs a new certificate.",
        "CERTIFICATE_VERIFY_FAILED": f"Enter the file of the CA that signed the agent's certificate as {bundle}.",
        "WRONG_VERSION_NUMBER": f"Does the agent speak plain http? Then the {field_name('host')} begins with http://.",
    }
    other = f"Check the scheme (http or https), and the {bundle} if the certificate is signed by a CA of your own."
    return next((remedy for sign, remedy in remedies.items() if sign in words), other)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it wraps; the libraries use arguments, ``reason`` and groups as well as causes.

    Never ``__context__``: where the caller is handling an exception, that one is the context of whatever is raised
    meanwhile (Python reference, "The raise statement"), and it says nothing of the request.
    """
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or found in seen or len(seen) > 20:
            continue
        seen.append(found)
        yield found
        waiting += [
            getattr(found, "reason", None),
            found.__cause__,
            *found.args,
            *getattr(found, "exceptions", ()),
        ]
