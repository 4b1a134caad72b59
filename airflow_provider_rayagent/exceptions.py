"""All errors of this provider: those of requests to the agent, and those that fail a task."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAbsentError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentLogsUnavailableError,
    RayAgentNotFoundError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentStreamLimitError,
    RayAgentTimeoutError,
    RayAgentTLSError,
    RayAgentUnreachableError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.text.codes import Code


# Airflow retries no task for an AirflowFailException or AirflowSensorTimeout (``task_runner.py`` of its task SDK), and
# with soft_fail it skips a sensor's task for both (``bases/sensor.py``).
class RayAgentJobFailedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The job FAILED, or ended with an unknown status: the task fails without a retry.

    The outcome of a job is final, so another try of the same task would fail again. Raised by
    :class:`.RayAgentJobSensor`, and for an ``AirflowFailException`` in a function of ``@task.ray``.
    """

    code = Code.CAUSE_UNKNOWN


class RayAgentJobStoppedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The job was STOPPED: the task fails without a retry."""

    code = Code.JOB_STOPPED


class RayAgentRunFailedError(RayAgentError):
    """The job that the task started FAILED, or ended with an unknown status; the next try starts a new job.

    Raised by the operators that start a job, and by ``@task.ray``.
    """

    code = Code.CAUSE_UNKNOWN


class RayAgentJobNotStartedError(RayAgentError):
    """The job did not start within the task's ``start_timeout``."""

    code = Code.NOT_STARTED
    failure_kind = FailureKind.START_TIMEOUT
    is_waited_for: bool | None = None
    """Whether the job remains PENDING, since the task goes on in the same try; ``None``: the policy was not asked."""


class RayAgentJobMissingError(RayAgentError):
    """The agent does not know the job, or has forgotten it."""

    code = Code.JOB_MISSING
    failure_kind = FailureKind.JOB_LOST


class RayAgentJobTimeoutError(RayAgentError, AirflowSensorTimeout):  # type: ignore[misc]
    """The job did not end within the ``timeout`` of :class:`.RayAgentJobSensor`."""

    code = Code.JOB_TIMED_OUT


class RayAgentJobStalledError(RayAgentError):
    """The job has written nothing, and none of its tasks has started or ended, for the task's ``stall_timeout``."""

    code = Code.JOB_STALLED
    failure_kind = FailureKind.STALLED


class RayAgentResultError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The job SUCCEEDED without a usable result, and ``read_result="required"``: the task fails without a retry.

    Another try would find the same job, and reuse its result.
    """

    code = Code.NO_RESULT
    failure_kind = FailureKind.PROGRAM


class RayAgentServeApplicationFailedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The Serve application is DEPLOY_FAILED or UNHEALTHY: the task fails without a retry.

    Raised by :class:`.RayAgentServeApplicationSensor`, after its ``grace_period``.
    """

    code = Code.APPLICATION_FAILED


class RayAgentWaitTimeoutError(RayAgentError, AirflowSensorTimeout):  # type: ignore[misc]
    """The Serve application or the cluster did not reach what a sensor waits for within the sensor's ``timeout``."""


__all__ = [
    "RayAgentAbsentError",
    "RayAgentConfigError",
    "RayAgentConnectionError",
    "RayAgentError",
    "RayAgentHTTPError",
    "RayAgentInputError",
    "RayAgentJobFailedError",
    "RayAgentJobMissingError",
    "RayAgentJobNotStartedError",
    "RayAgentJobStalledError",
    "RayAgentJobStoppedError",
    "RayAgentJobTimeoutError",
    "RayAgentLogsUnavailableError",
    "RayAgentNotFoundError",
    "RayAgentResourcesError",
    "RayAgentResponseError",
    "RayAgentResultError",
    "RayAgentRunFailedError",
    "RayAgentServeApplicationFailedError",
    "RayAgentServerError",
    "RayAgentStreamLimitError",
    "RayAgentTLSError",
    "RayAgentTimeoutError",
    "RayAgentUnreachableError",
    "RayAgentUnsupportedError",
    "RayAgentWaitTimeoutError",
]
