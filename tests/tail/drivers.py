"""The drivers of the table: their settings, their outcome, and the hook's generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.render.messages import MessageFinder

POLL_SECONDS = 0.3
PROTOCOLS: dict[str, tuple[StreamSource, ...]] = {
    "websocket": ("websocket",),
    "http": ("http",),
    "auto": ("websocket", "http"),
}
RAY = "ray"
"""In a protocol's place: over Ray's own dashboard, whose log is polled."""
SILENCE_SECONDS = 0.7
"""When a stream is taken for dead. On a slow machine a healthy one is too, which only costs another connection."""
HANG_SECONDS = 4.0
"""When a request is given up that is never answered. Only rows with such a request wait so briefly: on a slow machine a
late answer would be a failure, after which more is requested."""
SETTINGS = TailSettings(
    poll_interval=POLL_SECONDS,
    silence_timeout=SILENCE_SECONDS,
    missing_timeout=PATIENCE,
    unreachable_timeout=PATIENCE,
    max_line_length=8_000_000,
)


@dataclass
class Outcome:
    """The outcome of following one job.

    :param messages: what the messages of the job state; ``None`` if the driver does not look for any.
    :param error: what was raised at the end.
    :param late: seconds from the job's end to the end of the following; filled in by the stage.
    :param after: the routes of the requests in that time; filled in by the stage.
    :param early: whether the following ended before the job did; filled in by the stage.
    :param streams: the most that were open at once; filled in by the stage.
    :param truth: the log at the end; filled in by the stage.
    """

    lines: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    messages: MessageFinder | None = None
    error: Exception | None = None
    late: float = 0.0
    after: list[str] = field(default_factory=list)
    early: bool = False
    streams: int = 0
    truth: str = ""


Driver = Callable[[ServiceConfig, str, str], Outcome]
"""Called with the connection, the job's id and the protocol; returns when the tail has ended."""


def config_of(
    url: str, protocol: str = "auto", timeout: float = MAX_TIMEOUT, *, is_cluster: bool = False
) -> ServiceConfig:
    """Return a connection.

    :param timeout: seconds to wait for an answer.
    :param is_cluster: whether it is one with several clusters.
    """
    extra = {"service": "ray" if protocol == RAY else "agent", "connect_timeout": timeout, "read_timeout": timeout}
    if not is_cluster:
        return read_config(host=url, token="t", extra=extra)
    cluster = urlsplit(url).netloc
    return read_config(host="http://{cluster}", token="t", extra={**extra, "clusters": cluster}, cluster=cluster)


def argument_of(protocol: str) -> Any:
    """Return the protocol as an argument of ours."""
    return "auto" if protocol == RAY else protocol


def settings_for(protocol: str, **changes: Any) -> TailSettings:
    return replace(SETTINGS, sources=PROTOCOLS[argument_of(protocol)], **changes)


def follower_of(url: str, job_id: str, protocol: str, **changes: Any) -> tuple[BlockingFollower, BlockingServiceClient]:
    """Return a follower, and the transport to close after it."""
    agent = BlockingServiceClient(config_of(url, protocol))
    return BlockingFollower(agent, JobId(job_id), settings_for(protocol, **changes)), agent


def quick_hook(config: ServiceConfig) -> RayAgentHook:
    """Return a hook with a fixed connection that polls quickly."""
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

    class QuickHook(RayAgentHook):
        def follow_job(self, job_id: str, settings: TailSettings, **more: Any) -> BlockingFollower:
            return super().follow_job(job_id, replace(SETTINGS, sources=settings.sources), **more)

    hook = QuickHook()
    hook.__dict__["config"] = config
    return hook


def hook_generator(config: ServiceConfig, job_id: str, protocol: str) -> Outcome:
    """Follow with ``RayAgentHook.tail_job_logs``, which yields lines and logs notices."""
    outcome = Outcome()
    with quick_hook(config) as hook:
        try:
            outcome.lines += hook.tail_job_logs(job_id, protocol=argument_of(protocol))
        except RayAgentError as error:
            outcome.error = error
    return outcome
