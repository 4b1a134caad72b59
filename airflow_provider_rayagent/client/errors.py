"""Errors of the agent's wire: one small tree that says whose fault it was and what to do.

Every error carries ``status_code`` (the HTTP status, or the nearest one where there was no answer:
400 invalid input, 408 timeout, 503 no connection) and ``detail``, the words for a person, which a task log may show
(:func:`sanitize`). No error holds a token.
"""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_rayagent.text.sanitization import sanitize

MAX_DETAIL = 1_000
"""Characters of an error's words in a trigger's event, which Airflow prints whole into the task log."""


class RayAgentError(Exception):
    """Base of every error that this package raises for an agent, a request or a job.

    :param detail: what was wrong and what to do, in words; those that are not ours are redacted and cut before.
    :param status_code: an HTTP status, or ``None`` where none applies.
    """

    def __init__(self, detail: str, status_code: int | None = None) -> None:
        self.detail = sanitize(detail, lines=True)
        super().__init__(self.detail)
        self.status_code = status_code

    def __str__(self) -> str:
        return self.detail

    def __reduce__(self) -> tuple[type[RayAgentError], tuple[str, int | None]]:
        return type(self), (self.detail, self.status_code)


class RayAgentInputError(RayAgentError, ValueError):
    """An argument was refused before anything was sent: an id, a name, a timeout, a protocol."""

    def __init__(self, detail: str, status_code: int | None = 400) -> None:
        super().__init__(detail, status_code)


class RayAgentConfigError(RayAgentError, ValueError):
    """The connection is incomplete or malformed: no host, a bad port, an extra field of the wrong kind."""


class RayAgentUnsupportedError(RayAgentError):
    """The service of the connection cannot do this; nothing was sent."""

    def __init__(self, detail: str, status_code: int | None = 501) -> None:
        super().__init__(detail, status_code)


class RayAgentConnectionError(RayAgentError):
    """No connection to the agent, or it broke before the answer was whole."""

    def __init__(self, detail: str, status_code: int | None = 503) -> None:
        super().__init__(detail, status_code)


class RayAgentNameResolutionError(RayAgentConnectionError):
    """The agent's host name is not known."""


class RayAgentConnectionRefusedError(RayAgentConnectionError):
    """Nothing listens on the agent's address."""


class RayAgentTLSError(RayAgentConnectionError):
    """The TLS handshake failed: an unknown CA, a wrong host name, or a peer that speaks plain HTTP."""


class RayAgentTimeoutError(RayAgentConnectionError):
    """The agent did not answer in time."""

    def __init__(self, detail: str, status_code: int | None = 408) -> None:
        super().__init__(detail, status_code)


class RayAgentConnectTimeoutError(RayAgentTimeoutError):
    """No connection was made in time, so nothing was sent."""


class RayAgentRedirectError(RayAgentError):
    """The agent answered with a redirect that would carry the token elsewhere; it was not followed."""


class RayAgentHTTPError(RayAgentError):
    """The agent answered with an error status.

    ``retry_after`` holds the seconds of the answer's ``Retry-After`` header, or ``None``.
    """

    retry_after: float | None = None


class RayAgentAuthenticationError(RayAgentHTTPError):
    """401: the agent token is missing or wrong."""


class RayAgentPermissionError(RayAgentHTTPError):
    """403: the token is known but this is not allowed with it."""


class RayAgentNotFoundError(RayAgentHTTPError):
    """404: the agent does not know the job, node, task or application."""


class RayAgentRateLimitError(RayAgentHTTPError):
    """429: the agent asks for fewer requests."""


class RayAgentServerError(RayAgentHTTPError):
    """5xx: the agent, Ray or a proxy before it failed."""


class RayAgentGPUUnavailableError(RayAgentHTTPError):
    """503 with ``gpu_unavailable``: the cluster has not the GPUs that were asked for. An answer, not an outage."""


class RayAgentResponseError(RayAgentError):
    """The answer is not what an agent sends: not JSON, another shape, empty, or a 404 that is an HTML page."""


class RayAgentStreamLimitError(RayAgentError):
    """A log stream reached one of the ``StreamLimits`` that the caller set."""

    def __init__(self, detail: str, status_code: int | None = 429) -> None:
        super().__init__(detail, status_code)


class RayAgentLogsUnavailableError(RayAgentError):
    """The job's log could not be read whole, though its status could."""


def for_status(status: int, detail: str) -> RayAgentHTTPError:
    """Return the error of the tree that stands for an HTTP error status."""
    known: dict[int, type[RayAgentHTTPError]] = {
        401: RayAgentAuthenticationError,
        403: RayAgentPermissionError,
        404: RayAgentNotFoundError,
        429: RayAgentRateLimitError,
    }
    kind = known.get(status) or (RayAgentServerError if status >= 500 else RayAgentHTTPError)
    return kind(detail, status)


def error_to_json(error: RayAgentError | None) -> list[Any] | None:
    """Return an error as JSON primitives, its words cut."""
    return None if error is None else [type(error).__name__, _short(error.detail), error.status_code]


def error_from_json(value: Any) -> RayAgentError | None:
    """Return the error that :func:`error_to_json` gave.

    :raises TypeError: if ``value`` is nothing of the kind.
    """
    return None if value is None else _error(*value)


def _short(text: str) -> str:
    # An error's words have no secret any more that a cut could divide.
    text = text[:MAX_DETAIL]
    while len(json.dumps(text)) > 1.5 * MAX_DETAIL:
        text = text[: len(text) // 2]
    return text


def _error(name: str, detail: str, status_code: int | None) -> RayAgentError:
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, RayAgentError)):
        kind = RayAgentError
    return kind(detail, status_code)
