"""Base of sensors that wait for a state of the cluster, in a worker or deferred."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from airflow.sdk import PokeReturnValue
from airflow.sdk.configuration import conf

from airflow_provider_rayagent.sensors.rescheduling import ReschedulingSensor
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.validation import MIN_POLL_SECONDS, validate_duration
from airflow_provider_rayagent.tasks.deferring import DeferringOperator
from airflow_provider_rayagent.tasks.skipping import SkippingMixin
from airflow_provider_rayagent.waits.waiting import FAST_POLL_SECONDS, OutcomeT, Wait, WaitResult

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.triggers.waiting_trigger import WaitTrigger


class WaitingSensor(SkippingMixin, DeferringOperator, ReschedulingSensor, Generic[OutcomeT]):
    """Poll a state until a :class:`.Wait` has an outcome.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection, such as the name that the
        task which creates the cluster returns. (templated)
    :param poke_interval: seconds between two requests; with ``mode="reschedule"`` at least 10.
    :param agent_unreachable_timeout: seconds for which the requests may fail.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        cluster: str | None = None,
        poke_interval: timedelta | float,
        agent_unreachable_timeout: timedelta | float = 300.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self.agent_unreachable_timeout = validate_duration(agent_unreachable_timeout, "agent_unreachable_timeout")
        self.deferrable = deferrable
        self._logged_status: str | None = None
        self._deadline = float("inf")

    def execute(self, context: Context) -> Any:
        """Wait, here or deferred."""
        # For the loop in poke(): Airflow compares the timeout only after poke() has returned.
        self._deadline = time.monotonic() + self.timeout
        with self._handle_errors():
            return self._execute_deferred() if self.deferrable else super().execute(context)

    def poke(self, context: Context) -> bool | PokeReturnValue:  # noqa: ARG002
        """Check the state; while a timeout is running, keep checking until it decides."""
        with self.hook as hook:
            outcome = self._check_status(hook)
            # With mode="reschedule", the next poke is another process, in which the wait's timeouts would start again.
            while outcome.result is None and self._wait.needs_fast_poll and time.monotonic() < self._deadline:
                time.sleep(min(FAST_POLL_SECONDS, self.poke_interval))
                outcome = self._check_status(hook)
        return False if outcome.result is None else PokeReturnValue(True, self._conclude(outcome))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Conclude from the trigger's event."""
        return self._conclude(self._wait.outcome_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral."""
        with self._handle_errors():
            return super().resume_execution(next_method, next_kwargs, context)

    def _resume_without_event(self, context: Context, kwargs: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Check the state a last time."""
        with self.hook as hook:
            outcome = self._check_status(hook)
        return self._conclude(replace(outcome, result=outcome.result or WaitResult.TIMED_OUT))

    def _stop_at_timeout(self) -> None:
        """Nothing runs for this task alone."""

    @cached_property
    def _wait(self) -> Wait[OutcomeT]:
        return self._make_wait(float(self.poke_interval))

    def _make_wait(self, poll_interval: float) -> Wait[OutcomeT]:
        raise NotImplementedError

    def _trigger_type(self) -> type[WaitTrigger]:
        raise NotImplementedError

    def _conclude(self, outcome: OutcomeT) -> Any:
        """Return the value for XCom, or raise the error that fails the task."""
        raise NotImplementedError

    def _check_status(self, hook: RayAgentHook) -> OutcomeT:
        outcome = finish(self._wait.poll(hook.get_conn()))
        if outcome.status != self._logged_status:
            self._logged_status = outcome.status
            self.log.info("%s", self._wait.describe(outcome.status))
        return outcome

    def _execute_deferred(self) -> Any:
        # Do not defer for what is decided: the task could not resume at once (see task_instance/resume_delay.py).
        with self.hook as hook:
            outcome = self._check_status(hook)
        if outcome.result is not None:
            return self._conclude(outcome)
        self.log.info("Deferring: the triggerer waits from here on.")
        wait = self._make_wait(max(float(self.poke_interval), MIN_POLL_SECONDS))
        return self._defer(
            lambda deadline: self._trigger_type()(deadline=deadline, **self._service_arguments, **wait.arguments()),
            self._time_limit(),
        )

    def _time_limit(self) -> float:
        """Return the seconds for which to wait."""
        return self._within_execution_timeout(self.timeout) if self.deferrable else self.timeout
