"""A retry policy for the operators that start jobs: retry what the platform did, not what the program did."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.exceptions import RayAgentUnsupportedError
from airflow_provider_rayagent.render.failure_kinds import FailureKind, kind_of_error, summarize_error
from airflow_provider_rayagent.services.validation import validate_duration

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
else:
    try:
        from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
    except ImportError:  # Airflow 3.2 and older; the module can still be imported
        RetryDecision, RetryPolicy = None, object


class RayAgentRetryPolicy(RetryPolicy):
    """Decide by the cause of a failure whether and when a task is retried.

    A failure of the platform is retried after a delay of its own, as often as the task's ``retries`` permit. A failure
    of the program fails the task at once. For all other errors the task's own ``retries`` and ``retry_delay`` apply.

    Each argument is the delay before the retry, in seconds or as a ``timedelta``; with ``None`` such a failure fails
    the task at once, too.

    :param node_died: a node that the job used died, or its Ray did.
    :param worker_lost: a worker process of the job ended unexpectedly or became unreachable. Ray does not know why: the
        operating system may have killed it for lack of memory, or native code may have crashed.
    :param out_of_memory: Ray killed a part of the job since the node was low on memory.
    :param runtime_env: the job's ``runtime_env`` could not be set up, such as when a package could not be downloaded.
    :param resources: the cluster lacks the GPUs or other resources that the job requests.
    :param start_timeout: the job did not start in time.
    :param unreachable: the agent or the cluster was unreachable, or answered that it failed.
    :param job_lost: Ray lost the job, such as with its head, or could not start or monitor it.
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
        }
        self._delays = {
            kind: None if delay is None else validate_duration(delay, kind.value) for kind, delay in delays.items()
        }

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002
        max_tries: int,  # noqa: ARG002
        context: Context | None = None,  # noqa: ARG002
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
        return RetryDecision.retry(timedelta(seconds=delay), reason)

    def serialize(self) -> dict[str, Any]:
        """Return the delays in seconds, as JSON."""
        return {kind.value: delay for kind, delay in self._delays.items()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> RayAgentRetryPolicy:
        """Return the policy that :meth:`serialize` has returned."""
        return cls(**data)


__all__ = ["RayAgentRetryPolicy"]
