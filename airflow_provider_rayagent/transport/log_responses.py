"""Code that the blocking and the asyncio log transports share. No I/O."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentResponseError
from airflow_provider_rayagent.stream.frames import PING, PONG, FrameDecoder, accept_key, frame
from airflow_provider_rayagent.transport import limits, responses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Call
    from airflow_provider_rayagent.services.service import DecodeEvent, Service
    from airflow_provider_rayagent.stream.events import Event
    from airflow_provider_rayagent.stream.sse import SseDecoder

READ_BYTES = 65_536
SLICE_SECONDS = 1.0
"""Maximum duration of one wait for data of a whole log, so that the job's status is polled meanwhile."""
PING_SECONDS = 10.0
"""Interval between two WebSocket pings, which detect a dead peer."""
SEND_SECONDS = 5.0
"""Timeout for sending a frame to a peer that does not read."""
CLOSE_SECONDS = 0.2
"""Timeout for sending the close frame."""


class StreamEndedError(Exception):
    """The stream has ended.

    :param reason: why it ended.
    :param too_long: whether it ended because a message was too long to hold in memory.
    """

    def __init__(self, reason: str, *, too_long: bool = False) -> None:
        super().__init__(reason)
        self.too_long = too_long


def reason_of(error: BaseException) -> str:
    """Return why a stream ended, from the exception of a library."""
    return str(error) or type(error).__name__


def raise_if_ended(decoder: FrameDecoder | SseDecoder) -> None:
    """Raise the error for a stream whose data says that it has ended.

    :raises StreamEndedError: if it has ended.
    """
    if decoder.ended is not None:
        raise StreamEndedError(decoder.ended, too_long=decoder.too_long)


class WebSocketReader:
    """Decodes the data of a WebSocket, and says which control frames to send.

    :param now: monotonic seconds.
    """

    def __init__(self, decode: DecodeEvent, now: float) -> None:
        self._decode = decode
        self._frames = FrameDecoder()
        self.ping_due = now + PING_SECONDS
        """When to send the next ping."""

    def raise_if_ended(self) -> None:
        """Raise :class:`StreamEndedError` once the stream has ended."""
        raise_if_ended(self._frames)

    def take_ping(self, now: float) -> bytes | None:
        """Return the frame of a ping if one is due, to detect a dead peer."""
        if now < self.ping_due:
            return None
        self.ping_due = now + PING_SECONDS
        return control_frame(PING)

    def feed(self, data: bytes) -> tuple[list[Event], bytes | None]:
        """Return the events that ``data`` completes, and the frame to send in response, if any.

        :raises StreamEndedError: if ``data`` is empty, which means that the connection was closed.
        """
        if not data:
            raise StreamEndedError("the connection was closed")
        events = [self._decode(message) for message in self._frames.feed(data)]
        ping = self._frames.take_ping()
        answers_ping = ping is not None and self._frames.ended is None
        return events, control_frame(PONG, ping or b"") if answers_ping else None


class LogText:
    """Decodes the response with a whole log.

    :param headers: of the response.
    """

    def __init__(self, service: Service, headers: Mapping[str, str]) -> None:
        self._decoder = service.log_decoder(headers.get("content-type", ""))
        self.has_ended = False
        """Whether :meth:`end` has returned the last text."""
        self.is_delimited = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
        """Whether the response declares its end, so that a truncated one is detected."""

    def feed(self, body: bytes) -> str:
        """Return the text that ``body`` completes.

        :raises RayAgentConnectionError: if it is not a log.
        """
        try:
            return self._decoder.feed(body)
        except ValueError as error:
            raise broken_log(error) from None

    def end(self) -> str:
        """Return the remaining text at the end of the body.

        :raises RayAgentConnectionError: if the log is not complete.
        """
        self.has_ended = True
        try:
            return self._decoder.end()
        except ValueError as error:
            raise broken_log(error) from None


def broken_log(error: ValueError) -> RayAgentConnectionError:
    """Return our error for a whole log that cannot be decoded."""
    return RayAgentConnectionError(f"Reading the log failed: {error}.")


class LogBuffer:
    """Collects a whole log in memory."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._chunks: list[str] = []
        self._chars = 0

    def add(self, text: str) -> None:
        """Add a chunk.

        :raises RayAgentResponseError: if the log is too long.
        """
        self._chunks.append(text)
        self._chars += len(text)
        if self._chars > limits.HELD_LOG_CHARS:
            raise RayAgentResponseError(
                f"The log of job {self._job_id} has more than {limits.HELD_LOG_CHARS:,} characters: "
                "read it line by line, with tail_job_logs."
            )

    @property
    def text(self) -> str:
        """The log received so far."""
        return "".join(self._chunks)


def new_key() -> str:
    """Return a random key for a WebSocket handshake."""
    return base64.b64encode(os.urandom(16)).decode()


def check_upgrade(call: Call, status: int, headers: Mapping[str, str], key: str) -> None:
    """Validate a response that should open a WebSocket and does not have an error status.

    :raises RayAgentResponseError: if the response does not complete the handshake with ``key``.
    """
    if status != 101:
        raise RayAgentResponseError(f"{call.name} answered {status}, not a WebSocket.")
    if headers.get("sec-websocket-accept") != accept_key(key):
        raise RayAgentResponseError(f"{call.name} answered the WebSocket handshake with a wrong Sec-WebSocket-Accept.")


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Encode a control frame with a random mask."""
    return frame(opcode, payload, os.urandom(4))


def check_log_response(call: Call, status: int, headers: Mapping[str, str], body: bytes, config: AgentConfig) -> None:
    """Validate a response that should contain a log.

    :raises RayAgentHTTPError: for an error status.
    :raises RayAgentRedirectError: for a redirect.
    :raises RayAgentResponseError: for an HTML page.
    """
    responses.check_status(call, status, headers, body, config)
    if responses.is_html(headers, ""):
        raise responses.html_page_error(call, status, "a log", config)
