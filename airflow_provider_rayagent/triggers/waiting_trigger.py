"""Base of triggers that wait for a state of the cluster."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.hooks.async_hook import RayAgentAsyncHook
from airflow_provider_rayagent.services.waiting import FAST_POLL_SECONDS, OutcomeT, WaitResult, WaitState
from airflow_provider_rayagent.task_instance.resuming import pause_until_resumable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class WaitTrigger(BaseTrigger, Generic[OutcomeT]):
    """Poll a state until a :class:`WaitState` has an outcome, and fire one event: :meth:`WaitOutcome.to_event`."""

    rayagent_conn_id: str
    poll_interval: float
    deadline: float | None
    outcome_type: ClassVar[type[Any]]
    arguments: ClassVar[tuple[str, ...]]
    """Names of the arguments, which are attributes too."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        path = f"{type(self).__module__}.{type(self).__name__}"
        return path, {name: getattr(self, name) for name in self.arguments}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Wait, then fire the event."""
        began = time.monotonic()
        try:
            outcome = await self._wait_for_outcome()
        except RayAgentError as error:
            # From before the first request, such as for an invalid connection; the wait handles later ones.
            outcome = self.outcome_type(WaitResult.AGENT_UNREACHABLE, None, error)
        # Before the event, since the task resumes as soon as Airflow has it (see task_instance/resuming.py).
        await pause_until_resumable(began, self.task_instance)
        yield TriggerEvent(outcome.to_event())  # type: ignore[no-untyped-call]

    def _make_wait(self, redact: Callable[[str], str]) -> WaitState[OutcomeT]:
        raise NotImplementedError

    async def _read(self, hook: RayAgentAsyncHook) -> Any:
        """Return what :meth:`WaitState.received` processes."""
        raise NotImplementedError

    def _log_status(self, status: str) -> None:
        raise NotImplementedError

    async def _wait_for_outcome(self) -> OutcomeT:
        async with RayAgentAsyncHook(self.rayagent_conn_id) as hook:
            wait = self._make_wait((await hook.get_async_conn()).config.redact)
            logged_status: str | None = None
            while True:
                # Computed before the request, so that there is one more after the deadline.
                left = None if self.deadline is None else self.deadline - time.time()
                try:
                    outcome = wait.received(await self._read(hook), time.monotonic())
                except RayAgentError as error:
                    outcome = wait.failed(error, time.monotonic())
                if outcome.status != logged_status:
                    logged_status = outcome.status
                    self._log_status(logged_status)
                if outcome.result is not None:
                    return outcome
                if left is not None and left <= 0:
                    timed_out: OutcomeT = self.outcome_type(WaitResult.TIMED_OUT, outcome.summary, outcome.error)
                    return timed_out
                pause = min(self.poll_interval, FAST_POLL_SECONDS) if wait.needs_fast_poll else self.poll_interval
                await asyncio.sleep(pause if left is None else min(pause, left))
