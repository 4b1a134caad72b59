"""A retry policy for the operators that start jobs: retry what the platform did, not what the program did."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError, RayAgentUnsupportedError
from airflow_provider_rayagent.failures.failure_kinds import FailureKind, kind_of_error, summarize_error
from airflow_provider_rayagent.services.validation import validate_duration
from airflow_provider_rayagent.task_instance.resume_delay import seconds_to_resume

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:  # Airflow 3.2 and older; the module can still be imported
        RetryDecision, RetryPolicy = None, object


WAITS = frozenset({FailureKind.RESOURCES, FailureKind.START_TIMEOUT, FailureKind.UNREACHABLE})
"""The failures that pass without a change to the task, for which it waits without using a retry."""
DAY = 86400.0


class RayAgentRetryPolicy(RetryPolicy):
    """Decide by the cause of a failure whether and when a task is retried.

    A failure of the platform is retried after a delay of its own, as often as the task's ``retries`` permit. A failure
    of the program fails the task at once. For all other errors the task's own ``retries`` and ``retry_delay`` apply.

    From Airflow 3.4, ``resources``, ``start_timeout`` and ``unreachable`` use no retry: the task waits in the state
    ``up_for_reschedule`` and goes on in the same try, with a job that is still PENDING, and in the same place of the
    log. After ``wait_at_most`` they count as any other failure.

    .. code-block:: python

        from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
        from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

        RayAgentSubmitJobOperator(
            task_id="train",
            entrypoint="python train.py",
            retries=3,
            retry_policy=RayAgentRetryPolicy(node_died=120, out_of_memory=None),
        )

    Each other argument is the delay before the task runs again, in seconds or as a ``timedelta``; with ``None`` such a
    failure fails the task at once, too.

    :param node_died: a node that the job used died, or its Ray did.
    :param worker_lost: a worker process of the job ended unexpectedly or became unreachable. Ray does not know why: the
        operating system may have killed it for lack of memory, or native code may have crashed.
    :param out_of_memory: Ray killed a part of the job since the node was low on memory.
    :param runtime_env: the job's ``runtime_env`` could not be set up, such as when a package could not be downloaded.
    :param resources: the cluster lacks the GPUs or other resources that the job requests.
    :param start_timeout: the job did not start in time.
    :param unreachable: the agent or the cluster was unreachable, or answered that it failed.
    :param job_lost: Ray lost the job, such as with its head, or could not start or monitor it.
    :param preempted: a node that the job used was preempted: its provider took the machine away.
    :param storage_full: the object store or the disk of a node was full.
    :param stalled: the job has written nothing, and none of its tasks has started or ended, for the task's
        ``stall_timeout``.
    :param wait_at_most: how long a try may wait, counted from its first reschedule, in seconds or as a ``timedelta``.
        ``None``: every failure uses a retry, as below Airflow 3.4.
    :raises RayAgentUnsupportedError: below Airflow 3.3.
    :raises RayAgentInputError: if a delay is not a duration.
    """

    def __init__(
        self,
        *,
        node_died: timedelta | float | None = 60.0,
        worker_lost: timedelta | float | None = 60.0,
        out_of_memory: timedelta | float | None = 300.0,
        runtime_env: timedelta | float | None = 120.0,
        resources: timedelta | float | None = 600.0,
        start_timeout: timedelta | float | None = 600.0,
        unreachable: timedelta | float | None = 120.0,
        job_lost: timedelta | float | None = 120.0,
        preempted: timedelta | float | None = 30.0,
        storage_full: timedelta | float | None = 300.0,
        stalled: timedelta | float | None = 60.0,
        wait_at_most: timedelta | float | None = DAY,
    ) -> None:
        if RetryDecision is None:
            raise RayAgentUnsupportedError(
                "RayAgentRetryPolicy requires Airflow 3.3 or newer: upgrade Airflow, or remove the argument "
                "retry_policy."
            )
        # The value of each kind is the name of its argument, on which serialize() and deserialize() rely.
        delays = {
            FailureKind.NODE_DIED: node_died,
            FailureKind.WORKER_LOST: worker_lost,
            FailureKind.OUT_OF_MEMORY: out_of_memory,
            FailureKind.RUNTIME_ENV: runtime_env,
            FailureKind.RESOURCES: resources,
            FailureKind.START_TIMEOUT: start_timeout,
            FailureKind.UNREACHABLE: unreachable,
            FailureKind.JOB_LOST: job_lost,
            FailureKind.PREEMPTED: preempted,
            FailureKind.STORAGE_FULL: storage_full,
            FailureKind.STALLED: stalled,
        }
        self._delays = {
            kind: None if delay is None else validate_duration(delay, kind.value) for kind, delay in delays.items()
        }
        self._wait_at_most = None if wait_at_most is None else validate_duration(wait_at_most, "wait_at_most")

    def waits_for(self, kind: FailureKind, context: Context | None) -> bool:
        """Return whether a task with a failure of this kind runs again in the same try."""
        if context is None or kind not in WAITS or self._delays[kind] is None or self._wait_at_most is None:
            return False
        if not hasattr(RetryDecision, "reschedule"):
            return False
        first = context["ti"].get_first_reschedule_date(context)
        return first is None or (datetime.now(tz=timezone.utc) - first).total_seconds() < self._wait_at_most

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002
        max_tries: int,  # noqa: ARG002
        context: Context | None = None,
    ) -> RetryDecision:
        """Return what Airflow does about a failure, with the reason for the task log."""
        # Airflow does not ask for an AirflowFailException or AirflowSensorTimeout (``_run_task_and_map_outcome`` in
        # ``airflow/sdk/execution_time/task_runner.py``).
        kind = kind_of_error(exception)
        if kind is None:
            return RetryDecision.default()
        reason = summarize_error(exception, kind)
        # There is no delay for FailureKind.PROGRAM.
        delay = self._delays.get(kind)
        if delay is None:
            return RetryDecision.fail(reason)
        # The operator has asked, and keeps or stops the job by the answer; by now there may be another one.
        waits = exception.is_waited_for if isinstance(exception, RayAgentJobNotStartedError) else None
        if self.waits_for(kind, context) if waits is None else waits:
            decision: RetryDecision = RetryDecision.reschedule(  # type: ignore[attr-defined]  # Airflow 3.4
                timedelta(seconds=max(delay, seconds_to_resume())),
                # Airflow demands a bound; waits_for() has checked the exact one.
                reschedule_timeout=timedelta(seconds=(self._wait_at_most or 0.0) + DAY),
                reason=reason,
            )
            return decision
        return RetryDecision.retry(timedelta(seconds=delay), reason)

    def serialize(self) -> dict[str, Any]:
        """Return the arguments in seconds, as JSON."""
        return {**{kind.value: delay for kind, delay in self._delays.items()}, "wait_at_most": self._wait_at_most}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> RayAgentRetryPolicy:
        """Return the policy that :meth:`serialize` has returned."""
        return cls(**data)


__all__ = ["RayAgentRetryPolicy"]
