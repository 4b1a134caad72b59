"""What can go wrong behind the local agent."""

from __future__ import annotations


class LocalAgentError(Exception):
    """The local agent cannot do what was asked; the message says why."""


class RayUnavailableError(LocalAgentError):
    """Ray does not answer, or its control service is down."""


class RayAnswerError(LocalAgentError):
    """Ray refused or failed.

    :param status_code: the HTTP status with which the agent passes it on.
    """

    def __init__(self, detail: str, status_code: int) -> None:
        super().__init__(detail)
        self.status_code = status_code


class TooManyError(RayAnswerError):
    """The local agent has as many of something as it takes.

    :param what: what there is too much of, in the plural.
    """

    def __init__(self, what: str, most: int) -> None:
        super().__init__(f"The local agent has {most:,} {what}, and takes no more: try again later.", 429)


class RayTokenError(RayAnswerError):
    """Ray asks for a token, and there is none or not the right one."""

    def __init__(self, detail: str) -> None:
        # 401 would read as if the agent's own token were wrong.
        super().__init__(detail, 502)


class RayHeadError(LocalAgentError):
    """The agent's own Ray head did not start, or ended."""
