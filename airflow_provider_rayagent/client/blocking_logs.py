"""The blocking log transports: thin, each knows its protocol and no rule of the tail."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Protocol

from urllib3.util import wait_for_read

from airflow_provider_rayagent.client import limits
from airflow_provider_rayagent.client.blocking import BROKEN, read_body
from airflow_provider_rayagent.client.connections import has_pending, reader_of, upgraded
from airflow_provider_rayagent.client.errors import RayAgentConnectionError
from airflow_provider_rayagent.client.log_answers import (
    GOODBYE_SECONDS,
    PING_SECONDS,
    READ_BYTES,
    SEND_SECONDS,
    HeldLog,
    StreamEndedError,
    check_log_answer,
    check_upgrade,
    control_frame,
    is_delimited,
    new_key,
)
from airflow_provider_rayagent.stream.frames import CLOSE, PING, PONG, FrameDecoder, upgrade_headers
from airflow_provider_rayagent.stream.sse import SseDecoder

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    import requests
    from urllib3.response import HTTPResponse

    from airflow_provider_rayagent.client.blocking import BlockingAgent
    from airflow_provider_rayagent.client.call import Call
    from airflow_provider_rayagent.client.service import DecodeEvent, OpenLiveLog
    from airflow_provider_rayagent.client.validation import JobId
    from airflow_provider_rayagent.stream.events import Event

READ_AHEAD_BYTES = 262_144
"""Of server-sent events; then the agent is made to wait."""


class LogStream(Protocol):
    """A live log stream."""

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life.

        :raises StreamEndedError: once the stream has ended.
        """

    def close(self) -> None:
        """Close the connection at once."""


class WebSocketStream:
    """The log stream over WebSocket, on a connection that ``requests`` opened. Made by :meth:`open`.

    :param came: what was received after the head of the answer.
    """

    def __init__(
        self, decode: DecodeEvent, connection: socket.socket, came: bytes, opened: contextlib.ExitStack
    ) -> None:
        self._decode = decode
        self._socket, self._came = connection, came
        self._opened = opened
        self._frames = FrameDecoder()
        self._ping_due = time.monotonic() + PING_SECONDS

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
            connection, came = upgraded(response)
            connection.settimeout(SEND_SECONDS)
            return cls(decode, connection, came, opened.pop_all())

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life."""
        if self._frames.ended is not None:
            raise StreamEndedError(self._frames.ended, too_long=self._frames.too_long)
        try:
            data = self._receive(time.monotonic() + seconds)
            if data is None:
                return [], False
            if not data:
                raise StreamEndedError("the connection was closed")
            messages = self._frames.feed(data)
            ping = self._frames.take_ping()
            if ping is not None and self._frames.ended is None:
                self._socket.sendall(control_frame(PONG, ping))
        except OSError as error:
            raise StreamEndedError(str(error) or type(error).__name__) from None
        return [self._decode(message) for message in messages], True

    def _receive(self, until: float) -> bytes | None:
        """Return what comes next; a ping now and then makes a living peer show itself."""
        came, self._came = self._came, b""
        if came:
            return came
        while True:
            now = time.monotonic()
            if now >= self._ping_due:
                self._ping_due = now + PING_SECONDS
                self._socket.sendall(control_frame(PING))
            if self._has_come(max(min(until, self._ping_due) - now, 0.0)):
                try:
                    return self._socket.recv(READ_BYTES)
                except TimeoutError:  # of a TLS record, only the beginning came
                    return None
            if time.monotonic() >= until:
                return None

    def _has_come(self, seconds: float) -> bool:
        return has_pending(self._socket) or wait_for_read(self._socket, seconds)

    def close(self) -> None:
        """Say goodbye and close the connection without waiting for an answer."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(GOODBYE_SECONDS)
            self._socket.sendall(control_frame(CLOSE, b"\x03\xe8"))
        self._opened.close()


class SseStream:
    """The log stream as server-sent events, with ``requests``.

    A thread reads, since a read of ``requests`` that timed out can't be taken up again; it stops while much is unread,
    so that a slow reader slows the agent. Made by :meth:`open`.
    """

    def __init__(self, decode: DecodeEvent, response: requests.Response, opened: contextlib.ExitStack) -> None:
        self._decode = decode
        self._response = response
        self._opened = opened
        self._reader = reader_of(response)
        self._decoder = SseDecoder()
        self._news = threading.Condition()
        self._chunks: list[bytes] = []
        self._held = 0
        self._closed = False
        self._ended: str | None = None
        self._thread = threading.Thread(target=self._pump, name="rayagent-sse", daemon=True)

    @classmethod
    def open(cls, agent: BlockingAgent, call: Call, decode: DecodeEvent) -> SseStream:
        """Open the stream.

        :raises RayAgentError: if it can't be opened.
        """
        with contextlib.ExitStack() as opened:
            response = _open(opened, agent, call)
            _check(call, response, agent)
            stream = cls(decode, response, opened.pop_all())
        stream._reader.wait_for(None)
        stream._thread.start()
        return stream

    def read(self, seconds: float) -> tuple[list[Event], bool]:
        """Return the messages that came within ``seconds``, and whether the peer gave any sign of life."""
        with self._news:
            self._news.wait_for(lambda: self._chunks or self._ended is not None, max(seconds, 0.0))
            data, ended = b"".join(self._chunks), self._ended
            self._chunks.clear()
            self._held = 0
            self._news.notify_all()
        if self._decoder.ended is not None:
            raise StreamEndedError(self._decoder.ended, too_long=self._decoder.too_long)
        if data:
            events = self._decoder.feed(data)
            return [self._decode(event.data, event.name) for event in events], True
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
        except (*BROKEN, ValueError, AttributeError) as error:
            end = str(error) or type(error).__name__
        with self._news:
            self._ended = end
            self._news.notify_all()

    def close(self) -> None:
        """Close the connection and wait for the thread to end."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._reader.end()
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
    """The whole log, read piece by piece, with ``requests``. Made by :meth:`open`."""

    def __init__(self, agent: BlockingAgent, response: requests.Response, opened: contextlib.ExitStack) -> None:
        self._agent = agent
        self._opened = opened
        self._raw = response.raw
        self._decoder = agent.config.service.log_decoder(response.headers.get("content-type", ""))
        self._at_end = False
        self.delimited = is_delimited(response.headers)
        """Whether the answer itself says where it ends, so that a cut one is noticed."""

    @classmethod
    def open(cls, agent: BlockingAgent, call: Call) -> WholeLog:
        """Send the request for the log.

        :raises RayAgentError: if it can't be had.
        """
        with contextlib.ExitStack() as opened:
            response = opened.enter_context(agent.opened(call))
            _check(call, response, agent)
            reader_of(response).wait_for(limits.LOG)
            return cls(agent, response, opened.pop_all())

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
        except BROKEN as error:
            raise self._agent.error(error) from None
        except ValueError as error:
            raise RayAgentConnectionError(f"Reading the log failed: {error}.") from None

    def close(self) -> None:
        """Close the answer; its connection goes back to the pool if it was read whole."""
        self._opened.close()


def read_whole_log(agent: BlockingAgent, job_id: JobId) -> str:
    """Return the whole log of a job.

    :raises RayAgentError: if it can't be had; tried again as calls are.
    """
    call = agent.send(agent.config.service.locate_log(job_id))
    if call is None:
        return ""

    def read() -> str:
        log, held = WholeLog.open(agent, call), HeldLog(job_id)
        try:
            while (text := log.read()) is not None:
                held.add(text)
        finally:
            log.close()
        return held.text

    return agent.repeated(call, read)


def _open(
    opened: contextlib.ExitStack, agent: BlockingAgent, call: Call, headers: dict[str, str] | None = None
) -> requests.Response:
    """Return the answer that a stream begins with; only its head has to come soon."""
    return opened.enter_context(agent.opened(call, read_timeout=agent.config.connect_timeout, headers=headers))


def _check(call: Call, response: requests.Response, agent: BlockingAgent) -> None:
    """Raise what is wrong with an answer; the body of a good one is left alone."""
    body = b"" if 200 <= response.status_code < 300 else read_body(call, response)
    check_log_answer(call, response.status_code, response.headers, body, agent.config)


def open_stream(agent: BlockingAgent, command: OpenLiveLog) -> LogStream:
    """Open a live log stream.

    :raises RayAgentError: if it can't be opened.
    """
    stream = WebSocketStream if command.source == "websocket" else SseStream
    return stream.open(agent, command.call, command.decode)
