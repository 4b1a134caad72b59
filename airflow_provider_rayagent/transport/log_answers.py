"""Code that the blocking and the asyncio log transports share. No I/O."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentResponseError
from airflow_provider_rayagent.stream.frames import accept_key, frame
from airflow_provider_rayagent.transport import answers, limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import AgentConfig
    from airflow_provider_rayagent.services.call import Call

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


def check_log_answer(call: Call, status: int, headers: Mapping[str, str], body: bytes, config: AgentConfig) -> None:
    """Validate a response that should contain a log.

    :raises RayAgentHTTPError: for an error status.
    :raises RayAgentRedirectError: for a redirect.
    :raises RayAgentResponseError: for an HTML page.
    """
    answers.check_status(call, status, headers, body, config)
    if answers.is_html(headers, ""):
        raise answers.html_page_error(call, status, "a log", config)


def is_delimited(headers: Mapping[str, str]) -> bool:
    """Whether a response declares its end, so that a truncated one is detected."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
