"""Base of operators that send a request to the agent and wait for its effect, in a worker or deferred."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskDeferralTimeout

from airflow_provider_rayagent.exceptions import RayAgentWaitTimeoutError
from airflow_provider_rayagent.services.validation import validate_duration
from airflow_provider_rayagent.services.waiting import OutcomeT, WaitResult, WaitState
from airflow_provider_rayagent.tasks.hook import HookMixin
from airflow_provider_rayagent.text.codes import Code
from airflow_provider_rayagent.triggers.outcome import deferral_timeout, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_rayagent.errors.service_errors import RayAgentError
    from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent


class RequestWaitingOperator(HookMixin, BaseOperator):
    """Base of operators that wait.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param timeout: seconds to wait.
    :param poll_interval: seconds between two status checks.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        timeout: timedelta | float = 300.0,
        poll_interval: timedelta | float = 2.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.timeout = validate_duration(timeout, "timeout")
        self.poll_interval = validate_duration(poll_interval, "poll_interval")
        self.deferrable = deferrable

    # Not in __init__: Airflow copies the operators of a DAG deeply (``DAG.partial_subset``), which fails with an Event.
    @cached_property
    def _killed(self) -> ReentrantEvent:
        from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

        return ReentrantEvent()

    def on_kill(self) -> None:
        """Stop waiting; the request is not revoked."""
        self._killed.set()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; if no triggerer was running, it has timed out."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            raise self._timed_out("No triggerer reported an outcome", code=Code.NO_TRIGGERER) from None

    def _wait(self, wait: WaitState[OutcomeT], read: Callable[[], Any]) -> OutcomeT:
        """Poll until there is an outcome, as :class:`.WaitTrigger` does, or ``timeout`` has passed.

        :param read: returns what :meth:`WaitState.received` processes.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            outcome = wait.poll(read, time.monotonic())
            if outcome.result is not None:
                return outcome
            left = deadline - time.monotonic()
            # Not time.sleep(), so that a kill ends the wait at once.
            if left <= 0 or self._killed.wait(min(self.poll_interval, left)):
                return replace(outcome, result=WaitResult.TIMED_OUT)

    def _defer_wait(self, make_trigger: Callable[[float], BaseTrigger], **kwargs: Any) -> None:
        """Wait in the triggerer; ``execute_complete`` receives the trigger's event and ``kwargs``.

        :param make_trigger: creates the trigger; its argument is the deadline (seconds since the epoch).
        """
        self.log.info("Deferring: the triggerer waits from here on.")
        self.defer(
            # A time, not a duration: when its triggerer restarts, the trigger is created anew from these arguments.
            trigger=make_trigger(time.time() + self._time_limit()),
            method_name="execute_complete",
            kwargs=kwargs,
            timeout=deferral_timeout(self._time_limit()),
        )

    def _time_limit(self) -> float:
        """Return the seconds for which to wait."""
        return time_limit(self.timeout, self.execution_timeout) if self.deferrable else self.timeout

    def _timed_out(
        self, what: str, error: RayAgentError | None = None, code: Code = Code.STILL_THERE
    ) -> RayAgentWaitTimeoutError:
        last_error = f" Last error: {error.detail}" if error else ""
        return RayAgentWaitTimeoutError(f"{what} after {self._time_limit():g} seconds.{last_error}", 408, code=code)
