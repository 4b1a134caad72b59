"""Convert exceptions of the transport libraries to our errors, by their types and those of their causes."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest
import requests
from urllib3.exceptions import MaxRetryError, ReadTimeoutError, SSLError

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAbsentError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentTimeoutError,
    RayAgentTLSError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport import aio, blocking, log_responses
from airflow_provider_rayagent.transport.aio import HTTPX_ERRORS
from airflow_provider_rayagent.transport.blocking import REQUESTS_ERRORS
from airflow_provider_rayagent.transport.failures import LibraryErrors, as_service_error
from airflow_provider_rayagent.transport.limits import TooSlowError
from tests.scripted import Job, Play, Reset, ScriptedAgent
from tests.unit.transports import WHOLE_LOG, Transport, config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_rayagent.transport.service_client import ServiceClient

POST = "POST jobs/j1/stop/"
HANDLED = [
    ConnectionRefusedError(),
    socket.gaierror(),
    ssl.SSLCertVerificationError(),
    requests.ConnectTimeout(),
    httpx.ConnectTimeout("x"),
]
EXPECTED = (OSError, httpx.HTTPError)


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("handled", HANDLED, ids=ascii)
def test_a_post_in_an_except_block_is_sent_once(handled: Exception, transport: Transport) -> None:
    """Python sets the handled exception as the context of the one that the transport raises."""

    async def stop(agent: ServiceClient) -> None:
        try:
            fail(handled)
        except EXPECTED:
            await agent.ask(AGENT.stop_job(JobId("j1")))

    with ScriptedAgent(Job(status="RUNNING"), answers={POST: [Play(Reset())]}) as server:
        with pytest.raises(RayAgentError) as caught:
            transport.run(config_of(server), stop)
        assert len(server.of(POST)) == 1
    assert type(caught.value) is RayAgentConnectionError


def test_a_stream_opened_in_an_except_block_reports_its_own_error(transport: Transport) -> None:
    with ScriptedAgent(Job(), connects=[Play(Reset())]) as server:
        try:
            fail(ConnectionRefusedError())
        except EXPECTED:
            with pytest.raises(RayAgentError, match=r"The connection to .* failed"):
                transport.open(config_of(server), "websocket")


@pytest.mark.parametrize(
    ("url", "extra", "error"),
    [
        ("http://agent.invalid", {}, RayAgentUnreachableError),
        ("https://127.0.0.1:1", {"ca_bundle": "/nowhere/ca.pem"}, RayAgentConfigError),
        ("https://127.0.0.1:1", {"client_cert": "/nowhere/c.pem"}, RayAgentConfigError),
    ],
)
def test_a_host_or_a_file_that_does_not_exist_has_an_error_of_its_own(
    url: str, extra: dict[str, str], error: type[RayAgentError], transport: Transport
) -> None:
    with pytest.raises(error, match="agent.invalid" if "invalid" in url else "/nowhere/"):
        transport.send(config_of(url, **extra), AGENT.health_check())


def kind_of(value: object) -> str:
    return "" if isinstance(value, LibraryErrors) else getattr(value, "__name__", type(value).__name__)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


class ShortConnectTimeout(requests.ConnectTimeout):
    """A timeout of a later release."""


class ConnectTimeout(Exception):  # noqa: N818
    """A class that has only its name in common with those of the libraries."""


@pytest.mark.parametrize(
    ("raised", "library", "error"),
    [
        (requests.exceptions.InvalidURL("x"), REQUESTS_ERRORS, RayAgentConfigError),
        (requests.exceptions.InvalidHeader("x"), REQUESTS_ERRORS, RayAgentConfigError),
        (httpx.InvalidURL("x"), HTTPX_ERRORS, RayAgentConfigError),
        (caused(httpx.ConnectError("x"), socket.gaierror()), HTTPX_ERRORS, RayAgentUnreachableError),
        # The resolver's own failures.
        (socket.gaierror(socket.EAI_AGAIN, "x"), REQUESTS_ERRORS, RayAgentUnreachableError),
        (socket.gaierror(socket.EAI_FAIL, "x"), REQUESTS_ERRORS, RayAgentUnreachableError),
        (socket.gaierror(socket.EAI_NONAME, "x"), REQUESTS_ERRORS, RayAgentAbsentError),
        (caused(httpx.ConnectError("x"), socket.gaierror(-5, "x")), HTTPX_ERRORS, RayAgentAbsentError),
        (
            requests.exceptions.SSLError(MaxRetryError(None, "", SSLError(ssl.SSLError(1, "x")))),  # type: ignore[arg-type]
            REQUESTS_ERRORS,
            RayAgentTLSError,
        ),
        (caused(httpx.ConnectError("x"), ssl.SSLCertVerificationError()), HTTPX_ERRORS, RayAgentTLSError),
        (ConnectionRefusedError(), REQUESTS_ERRORS, RayAgentAbsentError),
        (requests.ConnectTimeout(), REQUESTS_ERRORS, RayAgentUnreachableError),
        (ShortConnectTimeout(), REQUESTS_ERRORS, RayAgentUnreachableError),
        (caused(httpx.ConnectTimeout("x"), TimeoutError()), HTTPX_ERRORS, RayAgentUnreachableError),
        (TimeoutError("_ssl.c:9: The handshake operation timed out"), HTTPX_ERRORS, RayAgentUnreachableError),
        (requests.ReadTimeout(), REQUESTS_ERRORS, RayAgentTimeoutError),
        (ReadTimeoutError(None, "", "x"), REQUESTS_ERRORS, RayAgentTimeoutError),  # type: ignore[arg-type]
        (httpx.ReadTimeout("x"), HTTPX_ERRORS, RayAgentTimeoutError),
        (httpx.WriteTimeout("x"), HTTPX_ERRORS, RayAgentTimeoutError),
        (caused(ReadTimeoutError(None, "", "x"), TooSlowError(1, 2.0)), REQUESTS_ERRORS, RayAgentTimeoutError),  # type: ignore[arg-type]
        (FileNotFoundError(2, "No such file"), HTTPX_ERRORS, RayAgentConfigError),
        # Nothing but the type counts.
        (ConnectTimeout(), REQUESTS_ERRORS, RayAgentConnectionError),
        (httpx.ConnectTimeout("x"), REQUESTS_ERRORS, RayAgentConnectionError),
        (requests.ConnectionError("Could not find the way"), REQUESTS_ERRORS, RayAgentConnectionError),
        (OSError("The handshake operation timed out"), REQUESTS_ERRORS, RayAgentConnectionError),
        # The peer may have closed the connection after it had received the request.
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), REQUESTS_ERRORS, RayAgentConnectionError),
        (ssl.SSLZeroReturnError(6, "closed"), REQUESTS_ERRORS, RayAgentConnectionError),
        (RayAgentTimeoutError("x"), REQUESTS_ERRORS, RayAgentTimeoutError),
    ],
    ids=kind_of,
)
def test_the_types_of_the_exceptions_determine_the_error(
    raised: Exception, library: LibraryErrors, error: type[RayAgentError]
) -> None:
    assert type(as_service_error(raised, read_config(host="agent"), library)) is error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (62, "name that the server's certificate is for"),
        (64, "name that"),
        (10, "a new certificate"),
        (20, "file of the CA"),
    ],
)
def test_the_error_for_a_rejected_certificate_says_what_to_correct(code: int, words: str) -> None:
    refused = ssl.SSLCertVerificationError(1, "expired mismatch WRONG_VERSION_NUMBER")
    refused.verify_code = code
    assert words in str(as_service_error(refused, read_config(host="agent"), REQUESTS_ERRORS))


def test_an_error_of_any_kind_is_not_the_end_of_a_log(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chunks(_: object) -> AsyncIterator[bytes]:
        yield b"line 1\n"
        raise KeyError("no luck")

    pieces: list[Any] = [b"line 1\n", KeyError("no luck")]

    def read(_: object) -> bytes:
        piece: Any = pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return bytes(piece)

    monkeypatch.setattr(blocking.BlockingResponse, "_read", read)
    monkeypatch.setattr(aio.AsyncResponse, "chunks", chunks)
    with (
        ScriptedAgent(Job("line 1\nline 2\n")) as server,
        pytest.raises(RayAgentConnectionError, match=r"failed: KeyError$"),
    ):
        transport.whole_log(config_of(server))


def test_a_log_that_cannot_be_read_ahead_leaves_no_connection(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    async def work(agent: ServiceClient) -> None:
        with pytest.raises(RuntimeError):
            await log_responses.WholeLog.open(agent, WHOLE_LOG)
        server.wait_until(lambda: server.open_connections == 0)

    monkeypatch.setattr(blocking, "ReadAheadThread", refuse)
    monkeypatch.setattr(aio, "ReadAheadTask", refuse)
    with ScriptedAgent(Job("line 1\n")) as server:
        transport.run(config_of(server), work)
