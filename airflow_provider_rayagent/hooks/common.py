"""What the blocking and the asyncio hook share: connection, stream limits, the end of a tail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client import wire
from airflow_provider_rayagent.client.config import AgentConfig, read_config
from airflow_provider_rayagent.client.errors import (
    RayAgentConfigError,
    RayAgentLogsUnavailableError,
    RayAgentNotFoundError,
    RayAgentStreamLimitError,
)
from airflow_provider_rayagent.client.plugins import validate_timeout_pair
from airflow_provider_rayagent.render.presenter import MAX_NOTICE
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.showable import showable

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.following import Following
    from airflow_provider_rayagent.tail.commands import Notice, TailSettings

DEFAULT_MAX_LINE_LENGTH = 8_000_000
"""Characters; the longest line that the hook's log methods yield in one piece."""


@dataclass
class StreamLimits:
    """Limits of one log stream, for those who want a stream to end early; ``None``, the default, is no limit.

    :param max_messages: messages that may come over WebSocket.
    :param max_lines: lines that may be yielded.
    :param max_bytes: bytes (UTF-8) of the lines that may be yielded.
    :param max_message_size: characters of the longest line; a longer one is yielded in marked pieces.
    :param queue_size: kept for the client's sake; what is read ahead is bounded by itself.

    Whatever is over ``max_messages``, ``max_lines`` or ``max_bytes`` raises :class:`RayAgentStreamLimitError`.
    """

    max_messages: int | None = None
    max_lines: int | None = None
    max_bytes: int | None = None
    max_message_size: int | None = None
    queue_size: int = 1_000

    @property
    def are_set(self) -> bool:
        """Whether there is a limit on what a stream brings as a whole."""
        return not (self.max_messages is None and self.max_lines is None and self.max_bytes is None)


def config_from_connection(connection: Any) -> AgentConfig:
    """Return the configuration that an Airflow connection describes, and have its secrets masked in logs.

    :raises RayAgentConfigError: naming the field that is missing or malformed.
    """
    from airflow.sdk.log import mask_secret

    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise RayAgentConfigError("The connection's extra must be a JSON object.")
    config = read_config(
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        token=connection.password,
        extra=extra,
    )
    for form in config.redact.forms:
        mask_secret(form)
    return config


def config_with_timeout(config: AgentConfig, timeout: object) -> AgentConfig:
    """Return a connection's configuration with other timeouts.

    :param timeout: seconds to connect and to wait for an answer, as a pair.
    :raises RayAgentInputError: for anything else.
    """
    connect, read = validate_timeout_pair(timeout)
    return replace(config, connect_timeout=connect, read_timeout=read)


def settings_of_tail(limits: StreamLimits, timeout: object, protocol: object) -> TailSettings:
    """Return how a hook's log method follows a job.

    :raises RayAgentInputError: for a bad timeout or protocol.
    """
    from airflow_provider_rayagent.client.following import tail_settings

    return tail_settings(
        protocol,
        silence_timeout=wire.validate_timeout(timeout),
        max_line_length=limits.max_message_size or DEFAULT_MAX_LINE_LENGTH,
    )


class LimitedLines:
    """Count what a log method yields against the limits that were set."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._lines = self._bytes = 0

    def count(self, line: str, following: Following) -> None:
        """Count one line that is to be yielded.

        :raises RayAgentStreamLimitError: if it goes over a limit.
        """
        self._lines += 1
        if self._limits.max_bytes is not None:
            self._bytes += len(line.encode("utf-8", "replace"))
        counted = (("max_messages", following.messages), ("max_lines", self._lines), ("max_bytes", self._bytes))
        for name, value in counted:
            limit = getattr(self._limits, name)
            if limit is not None and value > limit:
                raise RayAgentStreamLimitError(
                    f"The log stream went over the limit {name}={limit} that was set for it."
                )


def shown_notice(notice: Notice, following: Following) -> str:
    """Return a sentence about a log as the task log may show it."""
    return showable(notice.text, following.redact, length=MAX_NOTICE)


def raise_unless_whole(following: Following) -> None:
    """Raise why a tail that has ended did not give the whole log, if it did not.

    :raises RayAgentNotFoundError: if the agent does not know the job.
    :raises RayAgentError: the last failure to ask for the job's status.
    :raises RayAgentLogsUnavailableError: if the log's end could not be read.
    """
    if following.end is End.JOB_MISSING:
        raise RayAgentNotFoundError(f"The agent does not know the job {following.job_id}.", 404)
    if following.end is End.AGENT_UNREACHABLE and following.error is not None:
        raise following.error
    if not following.log_is_whole:
        raise RayAgentLogsUnavailableError(f"The end of the log of job {following.job_id} could not be read.")
