"""Convert exceptions of the transport libraries to our errors, with messages that say what to do."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAbsentError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentTimeoutError,
    RayAgentTLSError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.transport.environment import shown_proxy
from airflow_provider_rayagent.transport.limits import TooSlowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.connection.config import ServiceConfig

_BROKEN_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The peer closed a TLS connection. Every other ``SSLError`` means that the handshake failed."""
MAX_WORDS = 200
"""Characters of the words of an exception in a message."""
HANDSHAKE = "handshake operation timed out"
"""Part of the message of the ``TimeoutError`` of a TLS handshake, which has no separate type (CPython's ``_ssl.c``)."""
_OWN_WORDS = re.compile(
    r"IncompleteRead\(\d+ bytes read(?:, \d+ more expected)?\)"
    r"|peer closed connection without sending complete message body(?: \([a-z0-9, ]+\))?"
    r"|Server disconnected without sending a response|Remote end closed connection without response"
    r"|Invalid URL in location header"
    # What follows the status is the text of the proxy.
    r"|Tunnel connection failed: \d{3}|\d{3}(?= )"
)
"""Words of the libraries' own. Their other messages may quote the response, whoever sent it: ``BadStatusLine`` is the
first line of a server that does not speak HTTP."""
# A name without addresses, such as that of a Kubernetes service without ready pods, has an error code of its own, which
# is not in POSIX (getaddrinfo(3)).
_UNKNOWN_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
# OpenSSL's X509_V_ERR_* of x509_vfy.h.
_EXPIRED = 10
_WRONG_HOST = (62, 64)


class LibraryErrors(NamedTuple):
    """Exceptions of a transport library that are not built into Python.

    :param unusable: the URL or a header is invalid.
    :param connect_timeout: no connection in time.
    :param read_timeout: no response in time.
    """

    unusable: tuple[type[BaseException], ...] = ()
    connect_timeout: tuple[type[BaseException], ...] = ()
    read_timeout: tuple[type[BaseException], ...] = ()


def as_service_error(
    error: BaseException, config: ServiceConfig, library: LibraryErrors, proxy: str | None = None
) -> RayAgentError:
    """Return our error for an exception of a transport library or a socket.

    :param library: the exceptions of the library that was used.
    :param proxy: URL of the proxy in between, or ``None``.
    """
    if isinstance(error, RayAgentError):
        return error
    where = config.base_url if proxy is None else f"{config.base_url} (through the proxy {shown_proxy(proxy)})"
    causes = tuple(causes_of(error))
    # Redacted before it is cut, since half a secret is not recognized.
    words = config.redact(str(causes[-1]) or type(causes[-1]).__name__)[:MAX_WORDS]
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _BROKEN_TLS):
            return RayAgentTLSError(f"TLS handshake with {where} failed: {words}. {_tls_remedy(cause)}")
        if isinstance(cause, TimeoutError) and HANDSHAKE in str(cause):
            return RayAgentUnreachableError(
                f"No TLS handshake with {where} within {config.connect_timeout:g} seconds: "
                "does this port use TLS (https)?"
            )
        if isinstance(cause, TooSlowError):
            return RayAgentTimeoutError(f"The response from {where} comes too slowly: {cause}.")
    # The first match counts: in both libraries, a connect timeout has a TimeoutError as its cause.
    known: tuple[tuple[tuple[type[BaseException], ...], type[RayAgentError], str], ...] = (
        (library.unusable, RayAgentConfigError, f"The connection cannot be used: {words}"),
        (
            (socket.gaierror,),
            RayAgentUnreachableError,
            f"Cannot resolve the host name in {where}: check the {field_name('host')}.",
        ),
        (
            (ConnectionRefusedError,),
            RayAgentUnreachableError,
            f"Nothing listens at {where}: check {field_name('host')} and port; is {config.service.label} running?",
        ),
        (
            library.connect_timeout,
            RayAgentUnreachableError,
            f"No connection to {where} within {config.connect_timeout:g} seconds: check {field_name('host')} and port; "
            "is a firewall in between?",
        ),
        (
            (TimeoutError, *library.read_timeout),
            RayAgentTimeoutError,
            f"No response from {where} within {config.read_timeout:g} seconds.",
        ),
        (
            (FileNotFoundError,),
            RayAgentConfigError,
            f"The connection's CA bundle or client certificate cannot be read: {words}",
        ),
    )
    for kinds, error_type, detail in known:
        if any(isinstance(cause, kinds) for cause in causes):
            # With a proxy, it is the proxy that is absent: what it cannot reach, it says in a response of its own.
            is_absent = error_type is RayAgentUnreachableError and proxy is None and any(map(_says_absent, causes))
            return RayAgentAbsentError(detail) if is_absent else error_type(detail)
    return RayAgentConnectionError(f"The connection to {where} failed: {_safe_words(causes[-1], words)}")


def _says_absent(error: BaseException) -> bool:
    """Whether nothing has the address; a resolver may also have failed itself (``EAI_AGAIN``)."""
    is_unknown = isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME
    return is_unknown or isinstance(error, ConnectionRefusedError)


def _safe_words(error: BaseException, words: str) -> str:
    """Return the words of an exception if they are those of the operating system or known; otherwise its type."""
    if not str(error) or (isinstance(error, OSError) and isinstance(error.errno, int)):
        return words
    known = _OWN_WORDS.match(words)
    return known[0] if known else type(error).__name__


def _tls_remedy(error: ssl.SSLError) -> str:
    bundle = field_name("ca_bundle")
    if isinstance(error, ssl.SSLCertVerificationError):
        code = getattr(error, "verify_code", None)
        if code in _WRONG_HOST:
            return f"Enter the name that the server's certificate is for as {field_name('host')}."
        if code == _EXPIRED:
            return "The server needs a new certificate."
        return f"Enter the file of the CA that signed the server's certificate as {bundle}."
    # OpenSSL's reason if the peer's first bytes are not a TLS record.
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        return f"Does the server speak plain http? Then the {field_name('host')} begins with http://."
    return f"Check the scheme (http or https), and the {bundle} if the certificate is signed by a private CA."


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that it wraps as cause, argument, ``reason`` or member of a group.

    ``__context__`` is ignored: if the caller is handling an exception, that one is the context of every exception
    raised meanwhile (Python reference, "The raise statement"), and unrelated to the request.
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
