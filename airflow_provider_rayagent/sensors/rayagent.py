"""Sensor that follows a Ray job to its end."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_rayagent.agent import jobs, wire
from airflow_provider_rayagent.agent.errors import RayAgentError
from airflow_provider_rayagent.exceptions import (
    RayAgentJobFailedError,
    RayAgentJobMissingError,
    RayAgentJobStoppedError,
    RayAgentJobTimeoutError,
)
from airflow_provider_rayagent.hooks.common import SOURCES
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.links.rayagent import RayAgentJobLink, job_link
from airflow_provider_rayagent.logs.commands import End, Notice, TailSettings
from airflow_provider_rayagent.logs.cursor import Cursor
from airflow_provider_rayagent.logs.present import neutralize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.agent.follow import Follower
    from airflow_provider_rayagent.agent.following import Item

POKE_INTERVAL = 5.0
RESCHEDULE_INTERVAL = 60.0
MAX_LINE_LENGTH = 16_000
CURSOR_KEY = "rayagent_log_cursor"


class RayAgentJobSensor(BaseSensorOperator):
    """Follow a Ray job: forward its log, line by line, to the task log until the job has ended.

    The task succeeds exactly when the job does. A job that FAILED or was STOPPED fails the task without a retry,
    since a job that has ended stays as it is. The final details of the job go to XCom (``return_value``), also when
    the task fails: ``job_id``, ``submission_id``, ``type``, ``status``, ``message``, ``error_type``, ``entrypoint``,
    ``start_time`` and ``end_time`` (ms since the epoch), ``duration`` (seconds), ``driver_exit_code``,
    ``driver_node_id``, ``metadata``.

    In ``mode="reschedule"`` the worker slot is free between two looks; each look forwards what is new in the log.
    (Before Airflow 3.3 a task keeps no state between looks, so that the log is forwarded when the job has ended.)

    :param job_id: the job's id (Ray's submission id). (templated)
    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param forward_logs: whether the job's log is forwarded.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http`` (server-sent events).
    :param poke_interval: seconds between two looks at the job's status; default 5, or 60 in ``mode="reschedule"``,
        where less than 5 can hit a race in Airflow's scheduler.
    :param job_missing_timeout: seconds for which the agent may not know the job; a job in the agent's queue is not
        known for a while.
    :param agent_unreachable_timeout: seconds for which the job's status may be unreadable.
    :param max_line_length: characters; a longer line is forwarded in marked pieces.

    ``timeout``, ``soft_fail``, ``mode`` and the other arguments are those of every sensor; ``timeout`` covers the
    whole time that the job is followed.
    """

    template_fields: Sequence[str] = ("job_id", "rayagent_conn_id")
    operator_extra_links = (RayAgentJobLink(),)
    ui_color = "#d9edf7"

    def __init__(
        self,
        *,
        job_id: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        forward_logs: bool = True,
        protocol: wire.Protocol = "auto",
        poke_interval: timedelta | float | None = None,
        job_missing_timeout: float = 60.0,
        agent_unreachable_timeout: float = 300.0,
        max_line_length: int = MAX_LINE_LENGTH,
        **kwargs: Any,
    ) -> None:
        if poke_interval is None:
            poke_interval = RESCHEDULE_INTERVAL if kwargs.get("mode") == "reschedule" else POKE_INTERVAL
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_id = job_id
        self.rayagent_conn_id = rayagent_conn_id
        self.forward_logs = forward_logs
        self.protocol = wire.validate_protocol(protocol)
        self.job_missing_timeout = wire.validate_duration(job_missing_timeout, "job_missing_timeout")
        self.agent_unreachable_timeout = wire.validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.max_line_length = wire.validate_count(max_line_length, "max_line_length")
        self._forwarded: Cursor | None = None
        self._started: float | None = None

    @cached_property
    def hook(self) -> RayAgentHook:
        """The hook for the agent."""
        return RayAgentHook(rayagent_conn_id=self.rayagent_conn_id)

    @cached_property
    def _stopped(self) -> threading.Event:
        return threading.Event()

    def execute(self, context: Context) -> Any:
        """Follow the job from its first line; ``timeout`` counts from here."""
        self._forwarded = self._started = None
        return super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Follow the job to its end; in ``mode="reschedule"`` look once."""
        wire.validate_id(self.job_id, "job")
        link = job_link(self)
        if link:
            context["ti"].xcom_push(key=RayAgentJobLink().xcom_key, value=link)
        with self.hook:
            follower = self._look(context) if self.reschedule else self._follow(self.forward_logs)
        if follower.end is End.LOOKED or follower.end is None:
            return False
        try:
            return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, follower))
        except RayAgentError as error:
            if self.soft_fail or self.never_fail:
                # Airflow drops the error of a task that it skips.
                self.log.error("%s", error)  # noqa: TRY400
            raise

    def on_kill(self) -> None:
        """End the following; the job itself is not touched."""
        self._stopped.set()

    def _look(self, context: Context) -> Follower:
        store = context.get("task_state_store")
        if store is None or not self.forward_logs:
            follower = self._follow(False, once=True)
            return self._follow(self.forward_logs) if follower.end is End.JOB_ENDED else follower
        attempt = context["ti"].try_number
        self._forwarded = _saved_cursor(store.get(CURSOR_KEY), attempt)
        follower = self._follow(True, once=True)
        store.set(CURSOR_KEY, {"try_number": attempt, "cursor": follower.cursor.to_json()})
        return follower

    def _follow(self, forward: bool, *, once: bool = False) -> Follower:
        started = self._started = self._started or time.monotonic()
        settings = TailSettings(
            sources=SOURCES[self.protocol],
            poll_interval=max(self.poke_interval, 0.5),
            missing_timeout=self.job_missing_timeout,
            unreachable_timeout=self.agent_unreachable_timeout,
            max_line_length=self.max_line_length,
            forward=forward,
            once=once,
        )
        follower = self.hook.follow_job(
            self.job_id,
            settings,
            cursor=self._forwarded,
            deadline=None if once else max(self.timeout - (time.monotonic() - started), 0.0),
            stopped=self._stopped,
        )
        try:
            for items in follower.items():
                for item in items:
                    self._tell(item)
        finally:
            self._forwarded = follower.cursor
        return follower

    def _tell(self, item: Item) -> None:
        if isinstance(item, str):
            self.log.info("%s", neutralize(item))
        elif isinstance(item, Notice):
            self.log.log(30 if item.warning else 20, "%s", neutralize(item.text))
        else:
            self.log.info("%s", neutralize(jobs.describe(item.details, self.job_id)))
            if jobs.known_status(item.details) is None and not jobs.has_ended(item.details):
                self.log.warning(
                    "The status %r is not one that Ray has; the job is watched on.", item.details["status"]
                )

    def _conclude(self, context: Context, follower: Follower) -> dict[str, Any]:
        job = follower.job
        if follower.end is End.JOB_MISSING:
            raise RayAgentJobMissingError(
                f"The agent does not know the job {self.job_id}"
                + (", though it did before." if job else f" after {self.job_missing_timeout:g} seconds.")
                + " Check the id and the agent's connection; an agent that was set up anew forgets its jobs.",
                404,
            )
        if follower.end is End.AGENT_UNREACHABLE:
            raise follower.error or RayAgentError("The job's status could not be read.")
        if follower.end is End.TIMED_OUT:
            status = job.get("status") if job else "not known"
            raise RayAgentJobTimeoutError(
                f"Job {self.job_id} has not ended within the timeout of {self.timeout:g} seconds; it is {status}."
            )
        return self._result(context, job or {})

    def _result(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        redact = self.hook.config.redact
        summary = jobs.summarize(job, self.job_id, redact)
        status = jobs.known_status(job)
        if status is wire.JobStatus.SUCCEEDED:
            return summary
        context["ti"].xcom_push(key="return_value", value=summary)
        reason = neutralize(redact(jobs.why_it_ended(job, self.job_id)))
        raise (RayAgentJobStoppedError if status is wire.JobStatus.STOPPED else RayAgentJobFailedError)(reason)


def _saved_cursor(saved: object, attempt: int) -> Cursor | None:
    """Return the cursor that this try saved; another try begins at the first line."""
    if not isinstance(saved, dict) or saved.get("try_number") != attempt:
        return None
    try:
        return Cursor.from_json(saved["cursor"])
    except (KeyError, ValueError):
        return None
