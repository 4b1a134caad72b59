"""Trigger that follows a Ray job to its end in the triggerer."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_rayagent.client import jobs
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.following import tail_settings
from airflow_provider_rayagent.client.jobs import JobStatus
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.render.record_builder import PresentSettings
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.cursor import Cursor
from airflow_provider_rayagent.tail.items import in_portions
from airflow_provider_rayagent.task_instance.stopping import STOP_FAILED, state_if_ended, stop_job
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.triggers.gaps import MISSING_LINES, lines_shown
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN, Outcome
from airflow_provider_rayagent.triggers.position import Position
from airflow_provider_rayagent.triggers.tasklog import Channel, TaskLog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from datetime import datetime

    from airflow_provider_rayagent.client.aio_driver import AsyncFollower
    from airflow_provider_rayagent.client.validation import Protocol
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.task_instance.log_files import LogStorage
    from airflow_provider_rayagent.text.redaction import Redactor
    from airflow_provider_rayagent.triggers.gaps import Gap, TakeOver

__all__ = ["RayAgentJobTrigger"]


MAX_LINE_LENGTH = 16_000
"""Characters of a line in one record; the event loop would stand still for a second over one of a megabyte."""
ITEMS_AT_ONCE = 500
"""Lines that are made into records at a stretch, some milliseconds' work."""
TAKE_OVER_SECONDS = 3.0
"""Triggers that take over from another begin within this time, so that a restart does not storm the agent."""
KILL_SECONDS = 20.0
"""How long a killed trigger tries to stop its job; Airflow gives it 30 seconds."""
SILENT_SECONDS = 120.0
"""How long a trigger that was replaced waits for its triggerer to end it, before it goes on in spite of that."""


class RayAgentJobTrigger(BaseTrigger):
    """Follow a Ray job: write its log to the task log, and fire one event when the job has ended.

    The event's payload is :meth:`airflow_provider_rayagent.triggers.outcome.Outcome.to_event`. All arguments are JSON
    primitives, and none of them is a secret.

    :param job_id: the job's id.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param forward_logs: whether the job's log is forwarded.
    :param protocol: how the log is streamed: ``auto``, ``websocket`` or ``http``.
    :param poll_interval: seconds between two looks at the job's status.
    :param job_missing_timeout: seconds for which the agent may not know the job.
    :param agent_unreachable_timeout: seconds for which the job's status may be unreadable.
    :param max_line_length: characters; a longer line is forwarded in marked pieces, of at most 16,000.
    :param deadline: the moment (seconds since the epoch) at which to give up, after one more look; by default
        a minute before Airflow's own timeout of the deferral.
    :param start_deadline: the moment (seconds since the epoch) by which the job must have started, if there is one.
    :param cursor: where in the log to begin, as :meth:`JobRecords.position` or :meth:`Cursor.to_json` give it.
    :param stop_job_on_kill: whether the job is stopped when a user ends the task.
    :param present: how the job's lines look, the fields of :class:`PresentSettings`.
    :param result_markers: between which two texts the job prints its result.
    :param log_storage: where log files are kept: ``auto``, ``shared``, ``remote`` or ``separate``.
    """

    def __init__(
        self,
        *,
        job_id: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        forward_logs: bool = True,
        protocol: Protocol = "auto",
        poll_interval: float = 5.0,
        job_missing_timeout: float = 60.0,
        agent_unreachable_timeout: float = 300.0,
        max_line_length: int = MAX_LINE_LENGTH,
        deadline: float | None = None,
        cursor: dict[str, Any] | None = None,
        stop_job_on_kill: bool = False,
        present: dict[str, Any] | None = None,
        result_markers: list[str] | None = None,
        start_deadline: float | None = None,
        log_storage: LogStorage = "auto",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.rayagent_conn_id = rayagent_conn_id
        self.forward_logs = forward_logs
        self.protocol = protocol
        self.poll_interval = poll_interval
        self.job_missing_timeout = job_missing_timeout
        self.agent_unreachable_timeout = agent_unreachable_timeout
        self.max_line_length = max_line_length
        self.deadline = deadline
        self.cursor = cursor
        self.stop_job_on_kill = stop_job_on_kill
        self.present = present
        self.result_markers = result_markers
        self.start_deadline = start_deadline
        self.log_storage = log_storage
        self.timeout_after: datetime | None = None
        """Set by the triggerer: when Airflow ends the deferral."""
        self._position: Position | None = None
        self._redact: Redactor = NO_SECRETS
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        names = (
            "job_id",
            "rayagent_conn_id",
            "forward_logs",
            "protocol",
            "poll_interval",
            "job_missing_timeout",
            "agent_unreachable_timeout",
            "max_line_length",
            "deadline",
            "cursor",
            "stop_job_on_kill",
            "present",
            "result_markers",
            "start_deadline",
            "log_storage",
        )
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Follow the job, then fire the event and return at once: Airflow kills a trigger that lives on after it."""
        try:
            outcome = await self._follow()
        except RayAgentError as error:
            outcome = Outcome(None, error=error)
        self._fired = True
        yield TriggerEvent(outcome.to_event(self._redact))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job, if that is wanted and it was a user who ended the task; say which lines the log lacks.

        Airflow also calls this where a triggerer that was taken for dead comes back: then the task is still deferred.
        """
        position = self._position
        if self._fired or self.task_instance is None or position is None:
            return
        if not self.stop_job_on_kill and not position.gaps:
            return
        stopping = asyncio.ensure_future(asyncio.wait_for(self._end_unless_task_goes_on(position), KILL_SECONDS))
        while not stopping.done():
            # Airflow cancels this again about once a second.
            with suppress(asyncio.CancelledError):
                await asyncio.wait((stopping,))
        stopping.result()

    async def _end_unless_task_goes_on(self, position: Position) -> None:
        has_ended, state = await asyncio.to_thread(
            state_if_ended, self.task_instance, self.job_id, self.log, deferred=True
        )
        if not has_ended:
            return
        if not await position.is_ours():
            self.log.info("This trigger ends; another one follows job %s, which is left alone.", self.job_id)
            return
        for gap in position.gaps:
            self._say_missing(gap, "no worker ends the task")
        if self.stop_job_on_kill:
            await self._stop_job(f"The task was ended from outside (state: {state})")

    async def _stop_job(self, why: str) -> None:
        try:
            async with self._hook() as hook:
                config = (await hook.get_async_conn()).config
        except RayAgentError as error:
            self.log.error(STOP_FAILED, self.job_id, error)  # noqa: TRY400
            return
        await asyncio.to_thread(stop_job, config, self.job_id, self.log, why)

    def _say_missing(self, gap: Gap, why: str) -> None:
        self.log.warning(MISSING_LINES, self.job_id, gap, why)

    async def _follow(self) -> Outcome:
        log = TaskLog(self.log)
        self._clock = StallClock(Channel.of_loop())
        self._position = position = Position(
            self.task_instance if self._settings().forward else None,
            self.log,
            start=self.cursor,
            storage=self.log_storage,
        )
        begin = await self._begin(position)
        async with self._hook() as hook:
            config = (await hook.get_async_conn()).config
            self._redact = config.redact
            records = JobRecords(
                self.job_id,
                PresentSettings.from_json(self.present),
                markers=self._markers,
                shown=self.forward_logs,
                redact=config.redact,
                where=config.base_url,
                position=begin,
            )
            follower = await hook.follow_job(
                self.job_id,
                self._settings(),
                cursor=Cursor.from_json(dict(begin)) if begin else None,
                deadline=self._seconds_left(),
                clock=self._clock,
            )
            keeper = asyncio.create_task(position.keep(lambda: self._is_replaced(position)))
            text = follower.cursor
            try:
                async with aclosing(follower.items()) as found:
                    async for items in found:
                        await self._yield_to_a_successor(position)
                        if follower.cursor is not text:
                            text = follower.cursor
                            for gap in position.log_was_rewritten():
                                self._say_missing(gap, "the job's log was rewritten since")
                        await self._tell(log, records, items)
                        if items:
                            position.moved(records.position(follower.cursor))
                await self._yield_to_a_successor(position)
                await log.write(records.finish())
            finally:
                keeper.cancel()
                with suppress(asyncio.CancelledError):
                    await keeper
            more: dict[str, Any] = {"lines": follower.cursor.lines}
            if records.result is not None:
                more["result"] = records.result.state()
            if _failed(follower) and self.forward_logs:
                more["last_lines"] = records.last_lines
            await position.save(**more)
        return Outcome.of(follower)

    def _hook(self) -> RayAgentAsyncHook:
        return RayAgentAsyncHook(self.rayagent_conn_id)

    async def _tell(self, log: TaskLog, records: JobRecords, items: list[Item]) -> None:
        """Write to the task log what there is to tell, so much at a time that the event loop is not held up."""
        for portion in in_portions(items, ITEMS_AT_ONCE):
            await log.write(records.render(portion, time.monotonic()))

    async def _begin(self, position: Position) -> Mapping[str, Any] | None:
        """Return where in the log to begin."""
        found = await position.load()
        if found is None:
            return self.cursor
        self.log.warning(
            "Going on at line %d of job %s: another triggerer followed it before this one. %s",
            lines_shown(found.position) + 1,
            self.job_id,
            _fate_of_lines(found),
        )
        await asyncio.sleep(random.uniform(0, TAKE_OVER_SECONDS))  # noqa: S311 - no secret
        return found.position

    async def _yield_to_a_successor(self, position: Position) -> None:
        """Wait to be cancelled, if this triggerer stood still and another has taken the job over meanwhile."""
        self._clock()
        while self._clock.stalled:
            stalls = self._clock.stalls
            if await self._is_replaced(position):
                self.log.info("Another triggerer follows job %s now; this one is silent.", self.job_id)
                await asyncio.sleep(SILENT_SECONDS)
                self._clock()
                stalls = self._clock.stalls
            self._clock.handled = stalls

    async def _is_replaced(self, position: Position) -> bool:
        self._clock()
        return self._clock.stalled and not await position.is_ours()

    def _seconds_left(self) -> float | None:
        deadline = self.deadline
        if deadline is None and self.timeout_after is not None:
            deadline = self.timeout_after.timestamp() - TIMEOUT_MARGIN
        return None if deadline is None else max(deadline - time.time(), 0.0)

    def _settings(self) -> TailSettings:
        return tail_settings(
            self.protocol,
            start_by=self.start_deadline,
            poll_interval=self.poll_interval,
            missing_timeout=self.job_missing_timeout,
            unreachable_timeout=self.agent_unreachable_timeout,
            max_line_length=min(self.max_line_length, MAX_LINE_LENGTH),
            progress_interval=PresentSettings.from_json(self.present).progress_interval,
            forward=self.forward_logs or self._markers is not None,
        )

    @property
    def _markers(self) -> tuple[str, str] | None:
        return (self.result_markers[0], self.result_markers[1]) if self.result_markers else None


class StallClock:
    """A monotonic clock in seconds that knows of standstills of the triggerer; see :meth:`Channel.beat`.

    One trigger that waits, for an answer or for its turn to write, is none: of a thousand each waits for long.
    """

    def __init__(self, channel: Channel) -> None:
        channel.beat()
        self._channel = channel
        self.handled = self.stalls

    @property
    def stalls(self) -> int:
        """How many there were."""
        return self._channel.standstills

    @property
    def stalled(self) -> bool:
        """Whether there was one that is not handled."""
        return self.stalls > self.handled

    def __call__(self) -> float:
        return self._channel.beat()


def _fate_of_lines(found: TakeOver) -> str:
    if found.lost is None:
        return "Lines that it wrote in its last seconds may appear twice; none is missing."
    lost = f"Its log file does not become part of the finished log: {found.lost} are forwarded again"
    return f"{lost} here." if found.is_repeated else f"{lost} by the worker that ends this task."


def _failed(follower: AsyncFollower) -> bool:
    return follower.job is not None and jobs.known_status(follower.job) is not JobStatus.SUCCEEDED
