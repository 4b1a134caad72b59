"""Errors of the local agent."""

from __future__ import annotations

NO_LOG = "Can only get logs of submission type jobs"
"""Ray's response for a job that was not submitted to it, but connected to the cluster."""


class LocalAgentError(Exception):
    """The local agent cannot do what was requested; the message explains why."""


class RayUnavailableError(LocalAgentError):
    """Ray does not respond, or its control service (GCS) is down."""


class RayResponseError(LocalAgentError):
    """Ray rejected the request or failed.

    :param status_code: HTTP status of the agent's own response.
    """

    def __init__(self, detail: str, status_code: int) -> None:
        super().__init__(detail)
        self.status_code = status_code


class TooManyError(RayResponseError):
    """A limit of the local agent is reached.

    :param what: what is limited, in the plural.
    """

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"The local agent has reached its limit of {limit:,} {what}. Try again later.", 429)


class RayTokenError(RayResponseError):
    """Ray requires a token, and none was found or it is wrong."""

    def __init__(self, detail: str) -> None:
        # 401 would suggest that the agent token is wrong.
        super().__init__(detail, 502)


class RayHeadError(LocalAgentError):
    """The Ray head that the agent started did not become ready, or has exited."""
