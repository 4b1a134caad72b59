"""The lines that the hooks' log methods yield, and the limits of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentLogsUnavailableError,
    RayAgentNotFoundError,
    RayAgentStreamLimitError,
)
from airflow_provider_rayagent.services.validation import validate_count, validate_timeout
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import Item, Notice, lines_in
from airflow_provider_rayagent.text.bounds import utf8_length
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.transport.tail_driver import Follower

DEFAULT_MAX_LINE_LENGTH = 8_000_000
"""Characters; the hooks' log methods yield longer lines in pieces."""


@dataclass
class StreamLimits:
    """Limits of one log stream; ``None``, the default, means no limit.

    .. code-block:: python

        from airflow.sdk import task

        from airflow_provider_rayagent.hooks.rayagent import RayAgentHook, StreamLimits


        @task
        def errors_in_log(job_id):
            with RayAgentHook() as hook:
                hook.stream_limits = StreamLimits(max_lines=100_000)
                return [line for line in hook.tail_job_logs(job_id) if "ERROR" in line]

    :param max_messages: maximum number of messages received over streams.
    :param max_lines: maximum number of lines yielded.
    :param max_bytes: maximum size of the lines yielded, in bytes of UTF-8.
    :param max_message_size: characters of the longest line; longer lines are yielded in marked pieces.
    :param queue_size: no effect, accepted for compatibility with the agent's own client; read-ahead is always bounded.

    Exceeding ``max_messages``, ``max_lines`` or ``max_bytes`` raises :class:`RayAgentStreamLimitError`. The first three
    are whole numbers of at least 0, and ``max_message_size`` is one greater than 0.
    """

    max_messages: int | None = None
    max_lines: int | None = None
    max_bytes: int | None = None
    max_message_size: int | None = None
    queue_size: int = 1_000

    @property
    def are_set(self) -> bool:
        """Whether the total of a stream is limited."""
        return not (self.max_messages is None and self.max_lines is None and self.max_bytes is None)


def hook_tail_settings(limits: StreamLimits, timeout: object, protocol: object) -> TailSettings:
    """Return the tail settings of a hook's log method.

    :raises RayAgentInputError: for a bad limit, timeout or protocol.
    """
    # Here and not when they are made, since their attributes may be set later.
    for name in ("max_messages", "max_lines", "max_bytes", "max_message_size"):
        value = getattr(limits, name)
        if value is not None:
            # A line cannot be split into pieces of no character.
            validate_count(value, f"{name} of the stream_limits", or_zero=name != "max_message_size")
    # Here, since DAG files import the hooks, and must not load what only a running task needs.
    from airflow_provider_rayagent.transport.tail_driver import tail_settings

    return tail_settings(
        protocol,
        silence_timeout=validate_timeout(timeout),
        max_line_length=limits.max_message_size or DEFAULT_MAX_LINE_LENGTH,
    )


class LimitedLines:
    """The lines of one call of a log method.

    :param follower: the follower of the job.
    :param log: the hook's logger, for notices about the log.
    """

    def __init__(self, follower: Follower, limits: StreamLimits, log: Any) -> None:
        self._follower = follower
        self._limits = limits if limits.are_set else None
        self._log = log
        self._lines = self._bytes = 0

    def lines_in(self, items: Sequence[Item]) -> Iterator[str]:
        """Return the lines in ``items``, and log the notices.

        :raises RayAgentStreamLimitError: when the first line that exceeds a limit is requested.
        """
        for item in items:
            if isinstance(item, Notice):
                self._log.log(item.level, "%s", sanitize(item.text, self._follower.redact, length=MAX_NOTICE))
        lines = lines_in(items)
        return iter(lines) if self._limits is None else self._within(lines, self._limits)

    def _within(self, lines: Iterable[str], limits: StreamLimits) -> Iterator[str]:
        for line in lines:
            # Counted before it is yielded: the line that exceeds a limit is not.
            self._count(line, limits)
            yield line

    def _count(self, line: str, limits: StreamLimits) -> None:
        self._lines += 1
        if limits.max_bytes is not None:
            self._bytes += utf8_length(line)
        counted = (("max_messages", self._follower.messages), ("max_lines", self._lines), ("max_bytes", self._bytes))
        for name, value in counted:
            limit = getattr(limits, name)
            if limit is not None and value > limit:
                raise RayAgentStreamLimitError(
                    f"The log stream exceeded the limit {name}={limit} (stream_limits of the hook)."
                )

    def raise_if_incomplete(self) -> None:
        """Raise an error if the tail has ended without the whole log.

        :raises RayAgentNotFoundError: if the agent does not know the job.
        :raises RayAgentError: the last error of the status request, if the agent is unreachable or gone.
        :raises RayAgentLogsUnavailableError: if the log's end could not be read.
        """
        follower = self._follower
        if follower.end is End.JOB_MISSING:
            raise RayAgentNotFoundError(f"Job {follower.job_id} does not exist.", 404, code=Code.JOB_MISSING)
        if follower.end in (End.AGENT_UNREACHABLE, End.CLUSTER_GONE) and follower.error is not None:
            raise follower.error
        if not follower.log_is_whole:
            raise RayAgentLogsUnavailableError(f"Could not read the end of the log of job {follower.job_id}.")
