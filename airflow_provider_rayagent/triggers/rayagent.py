"""Trigger that follows a Ray job to its end."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.metrics.job_metrics import JobMetrics, followed_jobs
from airflow_provider_rayagent.position.gaps import MISSING_LINES
from airflow_provider_rayagent.position.trigger_position import PositionStore
from airflow_provider_rayagent.run.follow import follow
from airflow_provider_rayagent.run.follow_options import FollowOptions, known_arguments
from airflow_provider_rayagent.run.message_xcoms import MessageXComs
from airflow_provider_rayagent.run.observer import log_last_lines
from airflow_provider_rayagent.run.outcome import Outcome
from airflow_provider_rayagent.services.validation import validate_count
from airflow_provider_rayagent.tail.cursor import Cursor, LogPosition, as_position
from airflow_provider_rayagent.task_instance.resume_delay import pause_until_resumable
from airflow_provider_rayagent.task_instance.stopping import STOP_FAILED, state_if_ended, stop_job
from airflow_provider_rayagent.task_instance.supervisor_channel import Channel, StallClock
from airflow_provider_rayagent.task_instance.xcoms import TriggerXComs
from airflow_provider_rayagent.text.bounds import MAX_LINE_LENGTH
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.triggers.trigger_sink import TriggerLinks, TriggerSink, is_replaced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow_provider_rayagent.position.gaps import TakeOver
    from airflow_provider_rayagent.text.redaction import Redactor

__all__ = ["FollowOptions", "RayAgentJobTrigger"]


TAKE_OVER_SECONDS = 3.0
"""Random delay of triggers that take over, so that a restart does not flood the agent."""
KILL_SECONDS = 20.0
"""Time for a killed trigger to stop its job; Airflow's limit is ``[triggerer] on_kill_timeout`` (30 seconds)."""


class RayAgentJobTrigger(BaseTrigger):
    """Follow a Ray job: write its log to the task log, and fire one event when the job has ended.

    The other arguments are the fields of :class:`FollowOptions` as JSON primitives. A trigger splits lines of more than
    16,000 characters, whatever ``max_line_length`` is. No argument is a secret.

    .. code-block:: python

        from airflow.sdk import BaseOperator

        from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger


        class FollowOperator(BaseOperator):
            def execute(self, context):
                trigger = RayAgentJobTrigger(job_id="train-20260131", job_missing_timeout=600)
                self.defer(trigger=trigger, method_name="conclude")

            def conclude(self, context, event):
                if event["end"] != "job ended" or event["status"] != "SUCCEEDED":
                    raise RuntimeError(f"The job did not succeed: {event}")

    :param job_id: id of the job.
    :param rayagent_conn_id: the Airflow connection of the agent.
    :param cluster: the cluster in the URL of the connection; ``None``: it has none.
    :param deadline: time (seconds since the epoch) at which to give up, after a last status check; ``None``: never.
    :param position: where in the log to start, in an internal form of this package (``JobRecords.position`` or
        ``Cursor.to_json``); ``None``: at its beginning.
    """

    def __init__(
        self,
        *,
        job_id: str,
        rayagent_conn_id: str = RayAgentHook.default_conn_name,
        cluster: str | None = None,
        deadline: float | None = None,
        position: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self.deadline = deadline
        self.position = position
        self.options = FollowOptions.from_json(known_arguments(FollowOptions, options, self.log))
        self._position_store: PositionStore | None = None
        self._redact: Redactor = NO_SECRETS
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        arguments = {
            "job_id": self.job_id,
            "rayagent_conn_id": self.rayagent_conn_id,
            "cluster": self.cluster,
            "deadline": self.deadline,
            "position": self.position,
            **self.options.to_json(),
        }
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Follow the job, then fire the event and return at once: Airflow calls ``on_kill`` on triggers that linger."""
        began = time.monotonic()
        try:
            outcome = await self._follow()
        except RayAgentError as error:
            outcome = Outcome(None, error=error)
        # Before the event, since the task resumes as soon as Airflow has it (see task_instance/resume_delay.py).
        await pause_until_resumable(began, self.task_instance)
        # Before the yield: on_kill() can be called while this generator is suspended.
        self._fired = True
        yield TriggerEvent(outcome.to_event(self._redact))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """If a user has ended the task, stop the job (``stop_job_on_kill``) and log which lines are missing.

        Airflow also calls this after a missed heartbeat, when another triggerer has taken over: then the task is still
        deferred, and its job must keep running.
        """
        store = self._position_store
        if self._fired or self.task_instance is None or store is None:
            return
        if not self.options.stop_job_on_kill and not store.gaps:
            return
        stopping = asyncio.ensure_future(asyncio.wait_for(self._stop_if_task_ended(store), KILL_SECONDS))
        while not stopping.done():
            # Airflow cancels this again about once a second (TriggerRunner.cancel_triggers); the stop must complete.
            # asyncio.wait() does not cancel what it waits for.
            with suppress(asyncio.CancelledError):
                await asyncio.wait((stopping,))
        # Raises the error of the stop, which Airflow logs (``TriggerRunner.run_trigger``).
        stopping.result()

    async def _stop_if_task_ended(self, store: PositionStore) -> None:
        # In a thread, since Airflow's blocking requests fail in a task of this loop that Airflow did not start itself
        # (``TriggerCommsDecoder.send`` in ``airflow/jobs/triggerer_job_runner.py``).
        has_ended, state = await asyncio.to_thread(
            state_if_ended, self.task_instance, self.job_id, self.log, deferred=True
        )
        if not has_ended:
            return
        # When a user clears the task, the trigger of the next try can start before this method is called.
        if not await store.is_current_owner():
            self.log.info(
                coded(Code.NOT_STOPPED, "Another trigger follows job %s now; this one is ending without stopping it."),
                self.job_id,
            )
            return
        for gap in store.gaps:
            self.log.warning(MISSING_LINES, self.job_id, gap, "no worker completes the task")
        if self.options.stop_job_on_kill:
            await self._stop_job(f"The task was ended externally (state: {state})")

    async def _stop_job(self, why: str) -> None:
        try:
            # The hook that followed the job is closed by now.
            async with self._hook() as hook:
                config = (await hook.get_async_conn()).config
        except RayAgentError as error:
            self.log.error(STOP_FAILED, self.job_id, error.detail)  # noqa: TRY400
            return
        await asyncio.to_thread(stop_job, config, self.job_id, self.log, why)

    async def _follow(self) -> Outcome:
        # All triggers of the process wait while a long record is written: a second for 1 MB.
        length = min(validate_count(self.options.max_line_length, "max_line_length"), MAX_LINE_LENGTH)
        options = replace(self.options, max_line_length=length)
        clock = StallClock(Channel.of_loop())
        self._position_store = store = PositionStore(
            self.task_instance if options.reads_log else None,
            self.log,
            start=as_position(self.position),
            storage=options.log_storage,
        )
        start = await self._starting_position(store)
        async with self._hook() as hook:
            follower = await hook.follow_job(
                self.job_id,
                # Whoever has saved a position got an answer of the service.
                replace(options.tail_settings(), has_answered=options.has_answered or start is not None),
                cursor=Cursor.from_json(dict(start)) if start else None,
                deadline=self._seconds_left(),
                clock=clock,
            )
            self._redact = follower.redact
            metrics = JobMetrics(self.rayagent_conn_id, "deferred", team=self.options.team_name, among=followed_jobs)
            records = options.records_of(follower, start)
            xcoms = TriggerXComs(self.task_instance)
            config = (await hook.get_async_conn()).config
            links = TriggerLinks(xcoms, config, self.job_id)
            message_xcoms = MessageXComs(xcoms.set, self.log, self.job_id, self.options.printed_links)

            async def push_messages() -> bool:
                if xcoms.is_due:
                    return await message_xcoms.push_some(records.printed.messages)
                # Before Airflow 3.3 they never are.
                return not xcoms.can_be_set

            sink = TriggerSink(
                self.log, self.job_id, follower.cursor, store=store, clock=clock, metrics=metrics, links=links
            )
            with metrics.following(follower):
                saver = asyncio.create_task(
                    store.save_changes(
                        lambda: is_replaced(clock, store),
                        push_messages,
                    )
                )
                try:
                    await follow(follower, records, sink, options.watch_of(config, self.job_id))
                finally:
                    # A save that is still in progress must not come after the last one below.
                    saver.cancel()
                    # Not ``await saver`` without its error, which would hide that this trigger is cancelled, too.
                    await asyncio.wait((saver,))
                more: dict[str, Any] = {
                    "lines": follower.cursor.lines,
                    "log_is_whole": follower.log_is_whole,
                    **records.printed.state(),
                }
                if follower.has_failed and options.forward_logs:
                    more["last_lines"] = records.last_lines
                    if records.hides_lines and not xcoms.can_be_set:
                        # The worker that completes the task would not learn them.
                        log_last_lines(self.log, self.job_id, records.last_lines, follower.redact)
                # Even if nothing is saved, this waits until the supervisor has read all lines: those still in its
                # socket when the trigger ends do not reach the log.
                await store.save(**more)
        return Outcome.of(follower)

    def _hook(self) -> RayAgentAsyncHook:
        return RayAgentAsyncHook(self.rayagent_conn_id, cluster=self.cluster)

    async def _starting_position(self, store: PositionStore) -> LogPosition | None:
        """Return the position at which to start, after taking over from an earlier trigger if there was one."""
        found = await store.load()
        if found is None:
            return as_position(self.position)
        self.log.warning(
            coded(Code.TAKEN_OVER, "Resuming at line %d of job %s after another triggerer. %s"),
            found.position["lines"] + 1,
            self.job_id,
            _describe_lost_lines(found),
        )
        await asyncio.sleep(random.uniform(0, TAKE_OVER_SECONDS))  # noqa: S311 - no secret
        return found.position

    def _seconds_left(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - time.time(), 0.0)


def _describe_lost_lines(found: TakeOver) -> str:
    if found.lost is None:
        return "Lines of its last seconds may appear twice; none are missing."
    lost = f"Its log file will not be part of the finished task log: {found.lost} are forwarded again"
    return f"{lost} here." if found.is_repeated else f"{lost} by the worker that completes this task."
