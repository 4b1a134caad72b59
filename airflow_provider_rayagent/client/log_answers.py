"""What the blocking and the asyncio log transports share. No I/O."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.client import answers, limits
from airflow_provider_rayagent.client.errors import RayAgentResponseError
from airflow_provider_rayagent.stream.frames import accept_key, frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.client.call import Call
    from airflow_provider_rayagent.client.config import AgentConfig

READ_BYTES = 65_536
PING_SECONDS = 10.0
"""Between two pings that make a living WebSocket peer show itself."""
SEND_SECONDS = 5.0
"""How long a frame of ours may wait for a peer that reads nothing, before the stream is given up."""
GOODBYE_SECONDS = 0.2
"""The same for the last one."""


class StreamEndedError(Exception):
    """The stream has ended, in whatever way; its text says how.

    :param too_long: whether it was given up at a message that is too long to be held.
    """

    def __init__(self, how: str, *, too_long: bool = False) -> None:
        super().__init__(how)
        self.too_long = too_long


class HeldLog:
    """A whole log that is read into memory."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._pieces: list[str] = []
        self._chars = 0

    def add(self, text: str) -> None:
        """Take the next piece.

        :raises RayAgentResponseError: if the log is too long for that.
        """
        self._pieces.append(text)
        self._chars += len(text)
        if self._chars > limits.HELD_LOG_CHARS:
            raise RayAgentResponseError(
                f"The log of job {self._job_id} has more than {limits.HELD_LOG_CHARS:,} characters: "
                "read it line by line, with tail_job_logs."
            )

    @property
    def text(self) -> str:
        """What came."""
        return "".join(self._pieces)


def new_key() -> str:
    """Return the random key of a WebSocket's handshake."""
    return base64.b64encode(os.urandom(16)).decode()


def check_upgrade(call: Call, status: int, headers: Mapping[str, str], key: str) -> None:
    """Raise what is wrong with an answer that should open a WebSocket, and is no error status.

    :raises RayAgentResponseError: for another answer than a handshake with ``key``.
    """
    if status != 101:
        raise RayAgentResponseError(f"{call.name} answered {status}, not a WebSocket.")
    if headers.get("sec-websocket-accept") != accept_key(key):
        raise RayAgentResponseError(f"{call.name} answered the WebSocket handshake with a wrong Sec-WebSocket-Accept.")


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a control frame of ours."""
    return frame(opcode, payload, os.urandom(4))


def check_log_answer(call: Call, status: int, headers: Mapping[str, str], body: bytes, config: AgentConfig) -> None:
    """Raise what is wrong with an answer that should bring a log.

    :raises RayAgentHTTPError: for an error status.
    :raises RayAgentRedirectError: for a redirect.
    :raises RayAgentResponseError: for an HTML page.
    """
    answers.check_status(call, status, headers, body, config)
    if answers.is_html(headers, ""):
        raise RayAgentResponseError(f"{call.name} answered with an HTML page, not with a log.", 502)


def is_delimited(headers: Mapping[str, str]) -> bool:
    """Whether an answer itself says where it ends, so that a cut one is noticed."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
