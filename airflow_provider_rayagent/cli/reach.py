"""Checks of ``doctor`` below HTTP: the host name, the port, TLS, and the clock, each in bounded time."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.connection.service_clock import seconds_of_date
from airflow_provider_rayagent.hooks.connection_check import Finding, Result
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.transport.blocking import BlockingAgent, BlockingResponse
from airflow_provider_rayagent.transport.environment import shown_proxy
from airflow_provider_rayagent.transport.failures import LibraryErrors, as_agent_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Call

DNS_SECONDS = 10.0
MAX_SKEW = 30.0
"""Seconds by which two clocks may differ; the header ``Date`` has whole seconds, and responses take their time."""
_PORTS = {"http": 80, "https": 443}
PROXY_VARIABLES = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY in the environment"


@dataclass(frozen=True)
class ResponseHead:
    """What the head of a response tells, whatever its status.

    :param date: its header ``Date``.
    :param received_at: seconds since the epoch, by this machine's clock.
    :param tls: version of TLS, or ``None``.
    :param certificate: the server's certificate in the form of ``ssl.SSLSocket.getpeercert``; empty if not verified.
    """

    date: str | None
    received_at: float
    tls: str | None
    certificate: Mapping[str, Any]


class ObservingAgent(BlockingAgent):
    """A transport that remembers what the first response told."""

    first_head: ResponseHead | None = None

    async def _request(self, call: Call, url: str, headers: Mapping[str, str], *, stream: bool) -> BlockingResponse:
        response = await super()._request(call, url, headers, stream=stream)
        connection: Any = response.reader.socket
        is_tls = hasattr(connection, "getpeercert")
        self.first_head = self.first_head or ResponseHead(
            response.headers.get("date"),
            time.time(),
            connection.version() if is_tls else None,
            (connection.getpeercert() or {}) if is_tls else {},
        )
        return response


def check_proxy(proxy: str | None) -> Finding:
    """Return through which proxy requests go."""
    if proxy is None:
        return Finding("proxy", Result.NOT_APPLICABLE, "Requests go through no proxy.")
    return Finding("proxy", Result.OK, f"Requests go through the proxy {shown_proxy(proxy)}.")


def check_name(config: AgentConfig, proxy: str | None) -> Finding:
    """Return whether the host name of the service, or that of the proxy, can be resolved."""
    host, port = _address(proxy or config.base_url)
    with contextlib.suppress(ValueError):
        return Finding("name", Result.OK, f"{ipaddress.ip_address(host)} is an IP address.")
    found: list[str] = []
    errors: list[OSError] = []

    def resolve() -> None:
        try:
            found.extend(sorted({str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}))
        except OSError as error:
            errors.append(error)

    # In a thread, since it has no timeout.
    thread = threading.Thread(target=resolve, name="rayagent-dns", daemon=True)
    thread.start()
    thread.join(DNS_SECONDS)
    if found:
        return Finding("name", Result.OK, f"{sanitize(host)} is {', '.join(found)}.")
    if errors:
        return Finding("name", Result.PROBLEM, _explain(errors[0], config, proxy))
    return Finding("name", Result.PROBLEM, f"DNS did not resolve {sanitize(host)} within {DNS_SECONDS:g} seconds.")


def check_port(config: AgentConfig, proxy: str | None) -> Finding:
    """Return whether the service, or the proxy, accepts connections."""
    host, port = _address(proxy or config.base_url)
    began = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=config.connect_timeout).close()
    except OSError as error:
        return Finding("TCP", Result.PROBLEM, _explain(error, config, proxy))
    elapsed = (time.monotonic() - began) * 1000
    return Finding("TCP", Result.OK, f"Port {port} accepts connections ({elapsed:.0f} ms).")


def check_tls(config: AgentConfig, head: ResponseHead) -> Finding:
    """Return how the connection is protected, for one that was established."""
    if head.tls is None:
        if config.exposes_token:
            return Finding("TLS", Result.WARNING, UNENCRYPTED)
        return Finding("TLS", Result.NOT_APPLICABLE, "The URL is http: requests are sent without encryption.")
    if config.verify is False:
        return Finding(
            "TLS", Result.PROBLEM, f"The server's certificate is not verified: turn {field_name('verify')} on again."
        )
    expires = head.certificate.get("notAfter")
    until = f", valid until {sanitize(str(expires))}" if expires else ""
    return Finding("TLS", Result.OK, f"{head.tls}, with a trusted certificate{until}.")


def check_clock(head: ResponseHead) -> Finding:
    """Return whether the clocks of this machine and of the service agree."""
    date = seconds_of_date(head.date)
    if date is None:
        return Finding("clock", Result.NOT_APPLICABLE, "The service does not tell its time (header Date).")
    skew = date - head.received_at
    if abs(skew) <= MAX_SKEW:
        return Finding("clock", Result.OK, "The clocks of this machine and of the service agree.")
    direction = "ahead of" if skew > 0 else "behind"
    return Finding(
        "clock",
        Result.PROBLEM,
        f"The service's clock is {abs(skew):.0f} seconds {direction} this machine's: synchronize both (NTP). "
        "The validity of tokens and certificates, and the times of jobs, depend on them.",
    )


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _explain(error: OSError, config: AgentConfig, proxy: str | None) -> str:
    if proxy is not None:
        words = config.redact(error.strerror or str(error))
        return f"The proxy {shown_proxy(proxy)} cannot be reached: {sanitize(words)}. Correct {PROXY_VARIABLES}."
    return as_agent_error(error, config, LibraryErrors(connect_timeout=(TimeoutError,))).detail
