"""How a task follows its job, in a worker or deferred."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_rayagent.position.log_files import LogStorage  # noqa: TC001 - msgspec reads the fields' types
from airflow_provider_rayagent.render.record_builder import DisplaySettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.render.result import Markers  # noqa: TC001
from airflow_provider_rayagent.run.job_watch import JobWatch
from airflow_provider_rayagent.run.silence_watch import StallSettings
from airflow_provider_rayagent.services.validation import POLL_SECONDS, STALL_SECONDS, Protocol
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.transport.tail_driver import tail_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import LogPosition
    from airflow_provider_rayagent.transport.tail_driver import Follower

_USUAL_DISPLAY = DisplaySettings()


def known_arguments(kind: type[Any], arguments: Mapping[str, Any], log: Any) -> dict[str, Any]:
    """Return those arguments of a trigger that are fields of a dataclass; log which ones are not.

    A triggerer may be of another version than the worker that has created the trigger.
    """
    names = {each.name for each in fields(kind) if each.init}
    unknown = sorted(set(arguments) - names)
    if unknown:
        log.warning("Ignoring arguments that this version does not have: %s", sanitize(", ".join(unknown)))
    return {name: value for name, value in arguments.items() if name in names}


@dataclass(frozen=True)
class FollowOptions:
    """How a task follows its job. A trigger stores it as JSON.

    .. code-block:: python

        from airflow_provider_rayagent.triggers.rayagent import FollowOptions, RayAgentJobTrigger

        options = FollowOptions(poll_interval=30, stop_job_on_kill=True)
        trigger = RayAgentJobTrigger(job_id="train-20260131", **options.to_json())

    :param forward_logs: forward the job's log to the task log.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http``.
    :param poll_interval: seconds between two status checks.
    :param job_missing_timeout: seconds for which the job may be unknown to the agent.
    :param agent_unreachable_timeout: seconds for which the job's status may be unavailable.
    :param max_line_length: characters; longer lines are forwarded in marked pieces.
    :param stop_job_on_kill: stop the job when a user ends the task.
    :param display: how to show the job's lines: :class:`.DisplaySettings`.
    :param result_markers: pairs of a start and an end marker between which the job prints its result; none: do not
        look for one.
    :param read_messages: look for the messages that the job prints.
    :param printed_links: names of links among them that are buttons of the task.
    :param start_deadline: time (seconds since the epoch) by which the job must have started; ``None``: no limit.
    :param log_storage: where log files are stored: ``auto``, ``shared``, ``remote`` or ``separate``.
    :param names_entrypoint: whether the first status has the entrypoint, which the task log may have already.
    :param has_answered: whether the service has answered earlier in this try; see :class:`TailSettings`.
    :param stall_after: seconds without a word of the job after which the task log says what runs; ``None``: never.
    :param stall_timeout: seconds after which such a job has stalled; ``None``: never.
    :param stall_stacks: whether to ask Ray for the Python stacks; ``None``: if it says that it gives them.
    :param team_name: the team of the task, which a triggerer does not tell its triggers; for metrics.
    """

    forward_logs: bool = True
    protocol: Protocol = "auto"
    poll_interval: float = POLL_SECONDS
    job_missing_timeout: float = 60.0
    agent_unreachable_timeout: float = 300.0
    max_line_length: int = MAX_LINE_LENGTH
    stop_job_on_kill: bool = False
    display: DisplaySettings = _USUAL_DISPLAY
    result_markers: tuple[Markers, ...] = ()
    read_messages: bool = False
    printed_links: tuple[str, ...] = ()
    start_deadline: float | None = None
    log_storage: LogStorage = "auto"
    names_entrypoint: bool = True
    has_answered: bool = False
    stall_after: float | None = STALL_SECONDS
    stall_timeout: float | None = None
    stall_stacks: bool | None = None
    team_name: str | None = None

    @property
    def reads_log(self) -> bool:
        """Whether the log is read at all."""
        return self.forward_logs or bool(self.result_markers) or self.read_messages

    def tail_settings(self) -> TailSettings:
        """Return the settings of the tail.

        :raises RayAgentInputError: for an invalid protocol.
        """
        return tail_settings(
            self.protocol,
            start_by=self.start_deadline,
            poll_interval=self.poll_interval,
            missing_timeout=self.job_missing_timeout,
            unreachable_timeout=self.agent_unreachable_timeout,
            has_answered=self.has_answered,
            max_line_length=self.max_line_length,
            progress_interval=self.display.progress_interval,
            forward=self.reads_log,
        )

    def records_of(self, follower: Follower, position: LogPosition | None = None) -> JobRecords:
        """Return what renders the job's items as records of the task log.

        :param position: see :class:`JobRecords`.
        """
        return JobRecords(
            follower.job_id,
            self.display,
            markers=self.result_markers,
            messages=self.read_messages,
            # The log may be read for what it says to Airflow alone.
            shown=self.forward_logs,
            redact=follower.redact,
            credentials=follower.credentials,
            where=follower.base_url,
            position=position,
            names_entrypoint=self.names_entrypoint,
            on_result=follower.expect_end,
        )

    def watch_of(self, config: ServiceConfig, job_id: str) -> JobWatch:
        """Return what watches the job."""
        settings = StallSettings(self.stall_after, self.stall_timeout, self.stall_stacks)
        return JobWatch(config, job_id, settings, reads_log=self.reads_log)

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON primitives, by their names."""
        # JSON has no tuples, which to_builtins() keeps.
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FollowOptions:
        """Return the options from a value of :meth:`to_json`, in which some may be missing.

        :raises TypeError: for an invalid value.
        """
        try:
            return msgspec.convert(dict(value), cls)
        except msgspec.ValidationError as error:
            # Of a TypeError, Airflow makes a failed trigger, while any other exception in a trigger's constructor ends
            # the triggerer (``TriggerRunner.create_triggers`` in ``airflow/jobs/triggerer_job_runner.py``).
            raise TypeError(f"Invalid arguments of a trigger: {error}") from None
