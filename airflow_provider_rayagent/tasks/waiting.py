"""A task that asks the agent for something and waits until it is done: in a worker, or deferred in the triggerer."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskDeferralTimeout

from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.transience import is_permanent
from airflow_provider_rayagent.client.validation import validate_duration
from airflow_provider_rayagent.exceptions import RayAgentWaitTimeoutError
from airflow_provider_rayagent.tasks.hook import HookMixin
from airflow_provider_rayagent.triggers.outcome import deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class RayAgentWaitingOperator(HookMixin, BaseOperator):
    """What operators that wait share.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param timeout: seconds to wait.
    :param poll_interval: seconds between two looks.
    :param deferrable: wait in the triggerer, without a worker; the default is ``[operators] default_deferrable``.
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

    @cached_property
    def _stopped(self) -> threading.Event:
        return threading.Event()

    def on_kill(self) -> None:
        """End the waiting; what was asked for is not taken back."""
        self._stopped.set()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; one that no triggerer ended in time has timed out."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            raise self._timed_out("No triggerer said what became of it") from None

    def _wait(self, is_done: Callable[[], bool], describe: Callable[[], str]) -> None:
        """Wait until ``is_done``; an agent that can't be reached meanwhile is asked again.

        :raises RayAgentWaitTimeoutError: with what ``describe`` says, after ``timeout`` seconds.
        """
        deadline = time.monotonic() + self.timeout
        trouble: RayAgentError | None = None
        while True:
            try:
                if is_done():
                    return
                trouble = None
            except RayAgentError as error:
                if is_permanent(error):
                    raise
                trouble = error
            left = deadline - time.monotonic()
            if left <= 0 or self._stopped.wait(min(self.poll_interval, left)):
                raise self._timed_out(describe(), trouble)

    def _defer_wait(self, make_trigger: Callable[[float], BaseTrigger], **kwargs: Any) -> None:
        """Wait in the triggerer; ``execute_complete`` gets the trigger's event, and ``kwargs``.

        :param make_trigger: gets the moment (seconds since the epoch) at which to give up.
        """
        self.log.info("The triggerer waits for that from here on, without a worker.")
        self.defer(
            trigger=make_trigger(time.time() + self.timeout),
            method_name="execute_complete",
            kwargs=kwargs,
            timeout=deferral_timeout(self.timeout),
        )

    def _timed_out(self, what: str, error: RayAgentError | None = None) -> RayAgentWaitTimeoutError:
        trouble = f" The last look failed: {error}" if error else ""
        return RayAgentWaitTimeoutError(f"{what} after {self.timeout:g} seconds.{trouble}", 408)
