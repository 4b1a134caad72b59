"""What all tasks have in common that can wait in the triggerer: their hook, and the deferral."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferralTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

CLUSTER = "cluster"
"""The argument of a deferral with the cluster for which the task has deferred."""
TIMEOUT_MARGIN = 60.0
"""Seconds after a trigger's deadline at which Airflow ends the deferral, in case no triggerer is running."""


class DeferringOperator(BaseOperator):
    """A task that can be deferred to a trigger that ends by itself."""

    rayagent_conn_id: str
    cluster: str | None

    # Not in __init__, where the arguments may still be templates.
    @cached_property
    def hook(self) -> RayAgentHook:
        """The hook for the agent."""
        return self._hook_of(self.cluster)

    def _hook_of(self, cluster: str | None) -> RayAgentHook:
        """Return a hook for one of the clusters of the connection."""
        from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

        return RayAgentHook(rayagent_conn_id=self.rayagent_conn_id, cluster=cluster)

    @property
    def _service_arguments(self) -> dict[str, Any]:
        """The arguments of a trigger that say which service it asks."""
        return {"rayagent_conn_id": self.rayagent_conn_id, CLUSTER: self.cluster}

    # Not in __init__: Airflow copies the operators of a DAG deeply (``DAG.partial_subset``), which fails with an Event.
    @cached_property
    def _killed(self) -> ReentrantEvent:
        """Set when Airflow kills the task."""
        from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent

        return ReentrantEvent()

    def _within_execution_timeout(self, seconds: float) -> float:
        """Return a time limit of a deferral. Airflow applies ``execution_timeout`` in workers only."""
        return min(seconds, self.execution_timeout.total_seconds()) if self.execution_timeout else seconds

    def _defer(self, make_trigger: Callable[[float | None], BaseTrigger], seconds: float | None, **kwargs: Any) -> None:
        """Wait in the triggerer; ``execute_complete`` receives the trigger's event and ``kwargs``.

        :param make_trigger: returns the trigger; its argument is the deadline (seconds since the epoch), ``None``
            without one.
        :param seconds: time limit.
        """
        self.defer(
            # A time, not a duration: when its triggerer restarts, the trigger is created anew from these arguments.
            trigger=make_trigger(None if seconds is None else time.time() + seconds),
            method_name="execute_complete",
            # By then, the template of the cluster is rendered again, perhaps to another one.
            kwargs=kwargs if self.cluster is None else {**kwargs, CLUSTER: self.cluster},
            timeout=None if seconds is None else timedelta(seconds=seconds + TIMEOUT_MARGIN),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral."""
        kwargs = dict(next_kwargs or {})
        self.cluster = kwargs.pop(CLUSTER, self.cluster)
        try:
            # Not super(): BaseSensorOperator.resume_execution turns this timeout into an AirflowSensorTimeout.
            return BaseOperator.resume_execution(self, next_method, kwargs, context)
        except TaskDeferralTimeout:
            return self._resume_without_event(context, kwargs)

    def _resume_without_event(self, context: Context, kwargs: Mapping[str, Any]) -> Any:
        """Conclude after no triggerer has ended the deferral in time.

        :param kwargs: those of the deferral.
        """
        raise NotImplementedError
