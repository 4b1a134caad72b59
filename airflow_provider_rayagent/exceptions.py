"""The errors of this package: those of the agent's wire, and those that a job's end gives a task."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_provider_rayagent.client.errors import (
    RayAgentAuthenticationError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentConnectionRefusedError,
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentGPUUnavailableError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentLogsUnavailableError,
    RayAgentNameResolutionError,
    RayAgentNotFoundError,
    RayAgentPermissionError,
    RayAgentRateLimitError,
    RayAgentRedirectError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentStreamLimitError,
    RayAgentTimeoutError,
    RayAgentTLSError,
)


class RayAgentJobFailedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The job ended as FAILED, or with a status that is not known: the task fails and is not retried.

    A job that has ended stays as it is, so that another try of the same task could only fail again.
    """


class RayAgentJobStoppedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The job was STOPPED before its end: the task fails and is not retried."""


class RayAgentRunFailedError(RayAgentError):
    """The job that the task itself started ended as FAILED; another try of the task starts a new one."""


class RayAgentJobNotStartedError(RayAgentError):
    """The job had not started within the task's ``start_timeout``."""


class RayAgentTaskIdentityError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """Airflow tells the task's instances apart by something that this version of the provider does not know.

    A job id could not be derived that is the task's own: the task fails and is not retried.
    """


class RayAgentJobMissingError(RayAgentError):
    """The agent does not know the job, or no longer knows it."""


class RayAgentJobTimeoutError(RayAgentError, AirflowSensorTimeout):  # type: ignore[misc]
    """The job had not ended within the task's ``timeout``."""


class RayAgentServeApplicationFailedError(RayAgentError, AirflowFailException):  # type: ignore[misc]
    """The Serve application is DEPLOY_FAILED or UNHEALTHY: the task fails and is not retried."""


class RayAgentServeApplicationTimeoutError(RayAgentError, AirflowSensorTimeout):  # type: ignore[misc]
    """The Serve application was not as wanted within the task's ``timeout``."""


class RayAgentWaitTimeoutError(RayAgentError):
    """What an operator asked for (a job's stop, an application's deletion) was not done in time."""


__all__ = [
    "RayAgentAuthenticationError",
    "RayAgentConfigError",
    "RayAgentConnectTimeoutError",
    "RayAgentConnectionError",
    "RayAgentConnectionRefusedError",
    "RayAgentError",
    "RayAgentGPUUnavailableError",
    "RayAgentHTTPError",
    "RayAgentInputError",
    "RayAgentJobFailedError",
    "RayAgentJobMissingError",
    "RayAgentJobNotStartedError",
    "RayAgentJobStoppedError",
    "RayAgentJobTimeoutError",
    "RayAgentLogsUnavailableError",
    "RayAgentNameResolutionError",
    "RayAgentNotFoundError",
    "RayAgentPermissionError",
    "RayAgentRateLimitError",
    "RayAgentRedirectError",
    "RayAgentResponseError",
    "RayAgentRunFailedError",
    "RayAgentServeApplicationFailedError",
    "RayAgentServeApplicationTimeoutError",
    "RayAgentServerError",
    "RayAgentStreamLimitError",
    "RayAgentTLSError",
    "RayAgentTaskIdentityError",
    "RayAgentTimeoutError",
    "RayAgentWaitTimeoutError",
]
