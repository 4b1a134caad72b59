"""The blocking log transports: thin, each knows its protocol and no rule of the tail."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn, Protocol

import requests
import websocket
from urllib3.exceptions import HTTPError

from airflow_provider_rayagent.agent import answers, wire
from airflow_provider_rayagent.agent.blocking import REQUESTS_ERRORS, socket_of
from airflow_provider_rayagent.agent.bodies import LogBodyDecoder
from airflow_provider_rayagent.agent.errors import RayAgentConnectionError, RayAgentResponseError
from airflow_provider_rayagent.agent.failures import LibraryErrors, as_agent_error
from airflow_provider_rayagent.agent.logstreams import (
    PING_SECONDS,
    READ_BYTES,
    StreamEndedError,
    check_log_answer,
    is_delimited,
)
from airflow_provider_rayagent.logs.events import Event, decode_event
from airflow_provider_rayagent.logs.frames import FrameDecoder
from airflow_provider_rayagent.logs.sse import SseDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from urllib3.response import HTTPResponse

    from airflow_provider_rayagent.agent.blocking import BlockingAgent
    from airflow_provider_rayagent.agent.config import AgentConfig

READ_AHEAD_BYTES = 262_144
"""Of server-sent events; then the agent is made to wait."""
# The library turns a timeout into its own type only once it is connected (websocket-client's ``_socket.py``).
WEBSOCKET_ERRORS = LibraryErrors(connect_timeout=(TimeoutError,), read_timeout=(websocket.WebSocketTimeoutException,))


class LogStream(Protocol):
    """A live log stream."""

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life.

        :raises StreamEndedError: once the stream has ended.
        """

    def close(self) -> None:
        """Close the connection at once."""


class WebSocketStream:
    """The log stream over WebSocket, with ``websocket-client``, whose own reading takes ten times as long as ours.

    :raises RayAgentError: if it can't be opened.
    """

    def __init__(self, agent: BlockingAgent, job_id: str) -> None:
        config = agent.config
        call = wire.get_job_logs(job_id)
        sslopt = _ssl_options(agent) if config.base_url.startswith("https") else {}
        self._socket = websocket.WebSocket(sslopt=sslopt)
        try:
            self._socket.connect(
                config.websocket_url(call.path),
                header=[f"{name}: {value}" for name, value in config.headers.items()],
                timeout=config.connect_timeout,
                redirect_limit=0,
                suppress_origin=True,
            )
        except websocket.WebSocketBadStatusException as error:
            _refuse(call, error.status_code, error.resp_headers, error.resp_body, config)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise as_agent_error(error, config, WEBSOCKET_ERRORS) from None
        status = self._socket.getstatus()
        if status is not None and status != HTTPStatus.SWITCHING_PROTOCOLS:
            # Before 1.9.1 the library takes a redirect that it does not follow for an accepted handshake.
            self._socket.shutdown()
            _refuse(call, status, self._socket.getheaders(), None, config)
        self._frames = FrameDecoder()
        self._pinged_at = time.monotonic()

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life."""
        if self._frames.ended is not None:
            raise StreamEndedError(self._frames.ended)
        connection = self._socket.sock
        if connection is None:
            raise StreamEndedError("closed")
        try:
            if not self._wait(connection, max(seconds, 0.0)):
                return [], False
            data = connection.recv(READ_BYTES)
        except TimeoutError:
            return [], False
        except (websocket.WebSocketException, OSError) as error:
            raise StreamEndedError(str(error) or type(error).__name__) from None
        if not data:
            raise StreamEndedError("the connection was closed")
        messages = self._frames.feed(data)
        for payload in self._frames.take_pings():
            with contextlib.suppress(websocket.WebSocketException, OSError):
                self._socket.pong(payload)
        return [decode_event(message) for message in messages], True

    def _wait(self, connection: socket.socket, seconds: float) -> bool:
        """Wait for something to read; a ping now and then makes a living peer show itself."""
        if getattr(connection, "pending", int)():
            return True
        while True:
            now = time.monotonic()
            pause = min(seconds, max(self._pinged_at + PING_SECONDS - now, 0.0))
            if select.select([connection], [], [], pause)[0]:
                return True
            seconds -= time.monotonic() - now
            if time.monotonic() >= self._pinged_at + PING_SECONDS:
                self._pinged_at = time.monotonic()
                self._socket.ping()
            if seconds <= 0:
                return False

    def close(self) -> None:
        """Say goodbye and close the connection without waiting for an answer."""
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._socket.settimeout(0.2)
            self._socket.send_close()
        self._socket.shutdown()


class SseStream:
    """The log stream as server-sent events, with ``requests``.

    A thread reads, since a read of ``requests`` that timed out can't be taken up again; it stops while much is unread,
    so that a slow reader slows the agent.

    :raises RayAgentError: if it can't be opened.
    """

    def __init__(self, agent: BlockingAgent, job_id: str) -> None:
        call = wire.stream_job_logs(job_id)
        self._opened = contextlib.ExitStack()
        with self._opened:
            response = self._opened.enter_context(agent.opened(call, read_timeout=agent.config.connect_timeout))
            _check(call, response, agent)
            self._opened = self._opened.pop_all()
        self._response = response
        self._socket = socket_of(response)
        if self._socket is not None:
            self._socket.settimeout(None)
        self._decoder = SseDecoder()
        self._news = threading.Condition()
        self._chunks: list[bytes] = []
        self._held = 0
        self._closed = False
        self._ended: str | None = None
        self._thread = threading.Thread(target=self._pump, name=f"rayagent-sse-{job_id}", daemon=True)
        self._thread.start()

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life."""
        with self._news:
            self._news.wait_for(lambda: self._chunks or self._ended is not None, max(seconds, 0.0))
            data, ended = b"".join(self._chunks), self._ended
            self._chunks.clear()
            self._held = 0
            self._news.notify_all()
        if data:
            return [decode_event(event.data, event.name) for event in self._decoder.feed(data)], True
        if ended is not None:
            raise StreamEndedError(ended)
        return [], False

    def _pump(self) -> None:
        end = "ended by the agent"
        try:
            for chunk in _pieces(self._response.raw):
                with self._news:
                    self._news.wait_for(lambda: self._held < READ_AHEAD_BYTES or self._closed)
                    if self._closed:
                        return
                    self._chunks.append(chunk)
                    self._held += len(chunk)
                    self._news.notify_all()
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            end = str(error) or type(error).__name__
        with self._news:
            self._ended = end
            self._news.notify_all()

    def close(self) -> None:
        """Close the connection and wait for the thread to end."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._opened.close()


def _pieces(raw: HTTPResponse) -> Iterator[bytes]:
    """Yield what comes of a body as soon as it has come. An agent sends an event a chunk, which has a shorter way."""
    if raw.chunked and raw.supports_chunked_reads():
        yield from raw.read_chunked(READ_BYTES, decode_content=True)
        return
    while chunk := raw.read1(READ_BYTES, decode_content=True):
        yield chunk


class WholeLog:
    """The whole log, read piece by piece, with ``requests``.

    :raises RayAgentError: if it can't be had.
    """

    def __init__(self, agent: BlockingAgent, job_id: str) -> None:
        call = wire.get_job_logs(job_id)
        self._agent = agent
        self._opened = contextlib.ExitStack()
        with self._opened:
            response = self._opened.enter_context(agent.opened(call))
            _check(call, response, agent)
            self._opened = self._opened.pop_all()
        self._raw = response.raw
        self._decoder = LogBodyDecoder(response.headers.get("content-type", ""))
        self._at_end = False
        self.delimited = is_delimited(response.headers)
        """Whether the answer itself says where it ends, so that a cut one is noticed."""

    def read(self) -> str | None:
        """Return the next piece of text, ``None`` at the end.

        :raises RayAgentError: if the answer breaks off.
        """
        if self._at_end:
            return None
        try:
            chunk = self._raw.read1(READ_BYTES, decode_content=True)
            if chunk:
                return self._decoder.feed(chunk)
            self._at_end = True
            return self._decoder.end()
        except (requests.RequestException, HTTPError, OSError) as error:
            raise as_agent_error(error, self._agent.config, REQUESTS_ERRORS) from None
        except ValueError as error:
            raise RayAgentConnectionError(f"The log's text broke off: {error}.") from None

    def close(self) -> None:
        """Close the answer; its connection goes back to the pool if it was read whole."""
        self._opened.close()


def read_whole_log(agent: BlockingAgent, job_id: str) -> str:
    """Return the whole log of a job.

    :raises RayAgentError: if it can't be had; tried again as calls are.
    """

    def read() -> str:
        log = WholeLog(agent, job_id)
        try:
            return "".join(iter(log.read, None))
        finally:
            log.close()

    return agent.repeated(wire.get_job_logs(job_id), read)


def _check(call: wire.Call, response: requests.Response, agent: BlockingAgent) -> None:
    good = 200 <= response.status_code < 300
    body = b"" if good else response.raw.read(READ_BYTES, decode_content=True)
    check_log_answer(call, response.status_code, response.headers, body, agent.config.redact)


def _refuse(
    call: wire.Call, status: int, headers: Mapping[str, str] | None, body: bytes | None, config: AgentConfig
) -> NoReturn:
    """Raise what an answer to a handshake means that is not a WebSocket."""
    answers.check_status(call, status, headers or {}, body or b"", config.redact)
    raise RayAgentResponseError(f"GET /{call.path} answered {status}, not a WebSocket.") from None


def _ssl_options(agent: BlockingAgent) -> dict[str, object]:
    verify, client_cert = agent.verify_with(), agent.config.client_cert
    options: dict[str, object] = {"ca_certs": verify}
    if verify is None:
        options = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    if client_cert:
        cert, key = client_cert if isinstance(client_cert, tuple) else (client_cert, None)
        options.update(certfile=cert, keyfile=key)
    return options


def open_stream(agent: BlockingAgent, job_id: str, source: str) -> LogStream:
    """Open the log stream of a source.

    :raises RayAgentError: if it can't be opened.
    """
    return WebSocketStream(agent, job_id) if source == "websocket" else SseStream(agent, job_id)
