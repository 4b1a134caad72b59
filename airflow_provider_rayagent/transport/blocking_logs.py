"""The blocking log transports. They implement the protocols; the rules of the tail are in the state machine."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from urllib3.util import wait_for_read

from airflow_provider_rayagent.stream.frames import CLOSE, NORMAL_CLOSURE, upgrade_headers
from airflow_provider_rayagent.stream.sse import SseDecoder
from airflow_provider_rayagent.transport import limits
from airflow_provider_rayagent.transport.blocking import BROKEN, read_body
from airflow_provider_rayagent.transport.blocking_connections import has_pending, reader_of, upgraded
from airflow_provider_rayagent.transport.log_responses import (
    CLOSE_SECONDS,
    READ_BYTES,
    SEND_SECONDS,
    SLICE_SECONDS,
    LogBuffer,
    LogText,
    StreamEndedError,
    WebSocketReader,
    broken_log,
    check_log_response,
    check_upgrade,
    control_frame,
    new_key,
    raise_if_ended,
    reason_of,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    import requests
    from urllib3.response import HTTPResponse

    from airflow_provider_rayagent.services.call import Call
    from airflow_provider_rayagent.services.service import DecodeEvent, OpenLiveLog
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.transport.blocking import BlockingAgent

READ_AHEAD_BYTES = 262_144
"""Bytes of a body to read ahead; then the agent has to wait."""


class LogStream(Protocol):
    """A live log stream."""

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether the peer is alive.

        :raises StreamEndedError: once the stream has ended.
        """

    def close(self) -> None:
        """Close the connection immediately."""


class WebSocketStream:
    """The log stream over WebSocket, on a connection that ``requests`` opened. Created by :meth:`open`.

    :param received: data received after the head of the response.
    """

    def __init__(
        self, decode: DecodeEvent, connection: socket.socket, received: bytes, opened: contextlib.ExitStack
    ) -> None:
        self._reader = WebSocketReader(decode, time.monotonic())
        self._socket, self._received = connection, received
        self._opened = opened

    @classmethod
    def open(cls, agent: BlockingAgent, call: Call, decode: DecodeEvent) -> WebSocketStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        key = new_key()
        with contextlib.ExitStack() as opened:
            response = _open(opened, agent, call, upgrade_headers(key))
            if response.status_code != 101:
                _check(call, response, agent)
            check_upgrade(call, response.status_code, response.headers, key)
            connection, received = upgraded(response)
            connection.settimeout(SEND_SECONDS)
            return cls(decode, connection, received, opened.pop_all())

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether the peer is alive."""
        self._reader.raise_if_ended()
        try:
            data = self._receive(time.monotonic() + seconds)
            if data is None:
                return [], False
            events, pong = self._reader.feed(data)
            if pong is not None:
                self._socket.sendall(pong)
        except OSError as error:
            raise StreamEndedError(reason_of(error)) from None
        return events, True

    def _receive(self, until: float) -> bytes | None:
        """Return the next data, or ``None`` if there is none in time. Send pings, to detect a dead peer."""
        received, self._received = self._received, b""
        if received:
            return received
        while True:
            now = time.monotonic()
            if ping := self._reader.take_ping(now):
                self._socket.sendall(ping)
            if self._is_readable(max(min(until, self._reader.ping_due) - now, 0.0)):
                try:
                    return self._socket.recv(READ_BYTES)
                except TimeoutError:  # a TLS record is incomplete
                    return None
            if time.monotonic() >= until:
                return None

    def _is_readable(self, seconds: float) -> bool:
        return has_pending(self._socket) or wait_for_read(self._socket, seconds)

    def close(self) -> None:
        """Send a close frame and close the connection, without waiting for a response."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(CLOSE_SECONDS)
            self._socket.sendall(control_frame(CLOSE, NORMAL_CLOSURE))
        self._opened.close()


class _ReadAhead:
    """A thread that reads a body ahead, since a read of ``requests`` cannot be resumed after a timeout.

    It pauses while too much is unread, to apply backpressure to the agent.

    :param body: the data of the body.
    :param opened: closes the response.
    """

    def __init__(self, response: requests.Response, body: Iterator[bytes], opened: contextlib.ExitStack) -> None:
        self._reader = reader_of(response)
        self._opened = opened
        self._condition = threading.Condition()
        self._chunks: list[bytes] = []
        self._held = 0
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(body,), name="rayagent-log", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> bytes:
        """Return the data received, after at most ``seconds``.

        :raises StreamEndedError: once the body has ended and all data was returned; its cause is the error, if any.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._chunks or self._ended, max(seconds, 0.0))
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
            self._condition.notify_all()
            if not data and self._ended:
                error = self._error
                raise StreamEndedError(reason_of(error) if error else "closed by the server") from error
        return data

    def close(self) -> None:
        """Close the response and wait for the thread to end; after a complete body, the connection can be reused."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            if not self._ended:
                self._reader.end()
        self._thread.join()
        self._opened.close()

    def _run(self, body: Iterator[bytes]) -> None:
        try:
            for chunk in body:
                with self._condition:
                    self._condition.wait_for(lambda: self._held < READ_AHEAD_BYTES or self._closed)
                    if self._closed:
                        return
                    self._chunks.append(chunk)
                    self._held += len(chunk)
                    self._condition.notify_all()
        except (*BROKEN, ValueError) as error:
            self._error = error
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()


class SseStream:
    """The log stream as server-sent events, with ``requests``. Created by :meth:`open`."""

    def __init__(self, decode: DecodeEvent, response: requests.Response, opened: contextlib.ExitStack) -> None:
        self._decode = decode
        self._decoder = SseDecoder()
        self._ahead = _ReadAhead(response, _body_chunks(response.raw), opened)

    @classmethod
    def open(cls, agent: BlockingAgent, call: Call, decode: DecodeEvent) -> SseStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        with contextlib.ExitStack() as opened:
            response = _open(opened, agent, call)
            _check(call, response, agent)
            reader_of(response).wait_for(None)
            return cls(decode, response, opened.pop_all())

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages received within ``seconds``, and whether any data was received."""
        raise_if_ended(self._decoder)
        data = self._ahead.take(seconds)
        events = self._decoder.feed(data) if data else []
        return [self._decode(event.data, event.name) for event in events], bool(data)

    def close(self) -> None:
        """Close the connection and wait for the thread to end."""
        self._ahead.close()


def _body_chunks(raw: HTTPResponse) -> Iterator[bytes]:
    """Yield the data of a body as it arrives. ``read_chunked`` is faster, and agents send each event as one chunk."""
    if raw.chunked and raw.supports_chunked_reads():
        yield from raw.read_chunked(READ_BYTES, decode_content=True)
        return
    while chunk := raw.read1(READ_BYTES, decode_content=True):
        yield chunk


class WholeLog:
    """The whole log, read incrementally with ``requests``. Created by :meth:`open`."""

    def __init__(self, agent: BlockingAgent, response: requests.Response, opened: contextlib.ExitStack) -> None:
        self._agent = agent
        self.text = LogText(agent.config.service, response.headers)
        body = iter(lambda: response.raw.read1(READ_BYTES, decode_content=True), b"")
        self._ahead = _ReadAhead(response, body, opened)

    @classmethod
    def open(cls, agent: BlockingAgent, call: Call) -> WholeLog:
        """Request the log.

        :raises RayAgentError: if it cannot be read.
        """
        with contextlib.ExitStack() as opened:
            response = opened.enter_context(agent.opened(call))
            _check(call, response, agent)
            reader_of(response).wait_for(limits.LOG)
            return cls(agent, response, opened.pop_all())

    def read(self) -> str | None:
        """Return the next chunk of text, an empty one after :data:`SLICE_SECONDS` without data, or ``None`` at the end.

        :raises RayAgentError: if the response is incomplete or too slow.
        """
        if self.text.has_ended:
            return None
        try:
            body = self._ahead.take(SLICE_SECONDS)
        except StreamEndedError as ended:
            cause = ended.__cause__
            if isinstance(cause, ValueError):
                raise broken_log(cause) from None
            if cause is not None:
                raise self._agent.error(cause) from None
            return self.text.end()
        return self.text.feed(body)

    def close(self) -> None:
        """Close the response; its connection returns to the pool if the body was read completely."""
        self._ahead.close()


@contextlib.contextmanager
def opened_log(agent: BlockingAgent, job_id: JobId, job: Mapping[str, Any] | None = None) -> Iterator[WholeLog | None]:
    """Yield the whole log of a job, unread; ``None`` if nothing was logged. The request is retried like a call.

    :param job: the job's details, if they are known.
    :raises RayAgentError: if it cannot be read.
    """
    call = agent.send(agent.config.service.locate_log(job_id, job))
    log = None if call is None else agent.repeated(call, lambda: WholeLog.open(agent, call))
    try:
        yield log
    finally:
        if log is not None:
            log.close()


def read_whole_log(agent: BlockingAgent, job_id: JobId) -> str:
    """Return the whole log of a job. Retries like a call.

    :raises RayAgentError: if it cannot be read.
    """
    call = agent.send(agent.config.service.locate_log(job_id))
    if call is None:
        return ""

    def read() -> str:
        log, buffer = WholeLog.open(agent, call), LogBuffer(job_id)
        try:
            while (text := log.read()) is not None:
                buffer.add(text)
        finally:
            log.close()
        return buffer.text

    return agent.repeated(call, read)


def _open(
    opened: contextlib.ExitStack, agent: BlockingAgent, call: Call, headers: dict[str, str] | None = None
) -> requests.Response:
    """Return the response of a stream; its head must arrive within the connect timeout."""
    return opened.enter_context(agent.opened(call, read_timeout=agent.config.connect_timeout, headers=headers))


def _check(call: Call, response: requests.Response, agent: BlockingAgent) -> None:
    """Validate a response; the body is read only for an error status."""
    body = b"" if 200 <= response.status_code < 300 else read_body(call, response)
    check_log_response(call, response.status_code, response.headers, body, agent.config)


def open_stream(agent: BlockingAgent, command: OpenLiveLog) -> LogStream:
    """Open a live log stream.

    :raises RayAgentError: if it can't be opened.
    """
    stream = WebSocketStream if command.source == "websocket" else SseStream
    return stream.open(agent, command.call, command.decode)
