"""What the blocking and the asyncio log transports share. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.agent import answers
from airflow_provider_rayagent.agent.errors import RayAgentResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.agent.wire import Call

READ_BYTES = 65_536
PING_SECONDS = 10.0
"""Between two pings that make a living WebSocket peer show itself."""


class StreamEndedError(Exception):
    """The stream has ended, in whatever way; its text says how."""


def check_log_answer(
    call: Call, status: int, headers: Mapping[str, str], body: bytes, redact: Callable[[str], str]
) -> None:
    """Raise what is wrong with an answer that should bring a log.

    :raises RayAgentHTTPError: for an error status.
    :raises RayAgentRedirectError: for a redirect.
    :raises RayAgentResponseError: for an HTML page.
    """
    answers.check_status(call, status, headers, body, redact)
    if answers.is_html(headers, ""):
        raise RayAgentResponseError(f"GET /{call.path} answered with an HTML page, not with a log.", 502)


def is_delimited(headers: Mapping[str, str]) -> bool:
    """Whether an answer itself says where it ends, so that a cut one is noticed."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
