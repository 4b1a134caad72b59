"""Errors of requests to an agent.

Every error has a ``status_code`` (the HTTP status or, without a response, the closest one: 400 for invalid input, 408
for a timeout, 503 for a failed connection) and a ``detail``, a message that is safe for the task log
(:func:`sanitize`). No error contains a token.
"""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_rayagent.text.sanitization import sanitize

CONFLICT = 409
"""Status of an answer that a job's id is taken, on Ray or in an agent's queue."""
MAX_DETAIL = 1_000
"""Characters of an error's message in a trigger's event, which Airflow prints to the task log."""


class RayAgentError(Exception):
    """Base class of all errors that this package raises for an agent, a request or a job.

    :param detail: message with the cause and the remedy; text from outside must already be redacted and truncated.
    :param status_code: an HTTP status, or ``None`` if none applies.

    ``failure_kind`` is what caused the failure of a job, one of the kinds of :class:`.RayAgentRetryPolicy`, or
    ``None``.
    """

    failure_kind: str | None = None

    def __init__(self, detail: str, status_code: int | None = None) -> None:
        self.detail = sanitize(detail, lines=True)
        super().__init__(self.detail)
        self.status_code = status_code

    def __str__(self) -> str:
        return self.detail

    def __reduce__(self) -> tuple[type[RayAgentError], tuple[str, int | None], dict[str, Any]]:
        return type(self), (self.detail, self.status_code), self.__dict__


class RayAgentInputError(RayAgentError, ValueError):
    """An argument is invalid, such as an id, a name, a timeout or a protocol; no request was sent."""

    def __init__(self, detail: str, status_code: int | None = 400) -> None:
        super().__init__(detail, status_code)


class RayAgentConfigError(RayAgentError, ValueError):
    """The Airflow connection is incomplete or malformed: no host, an invalid port, an extra field of the wrong type."""


class RayAgentUnsupportedError(RayAgentError):
    """The service of the connection cannot do this; nothing was sent."""

    def __init__(self, detail: str, status_code: int | None = 501) -> None:
        super().__init__(detail, status_code)


class RayAgentConnectionError(RayAgentError):
    """The connection to the agent failed, or broke before the response was complete."""

    def __init__(self, detail: str, status_code: int | None = 503) -> None:
        super().__init__(detail, status_code)


class RayAgentNameResolutionError(RayAgentConnectionError):
    """The agent's host name cannot be resolved."""


class RayAgentConnectionRefusedError(RayAgentConnectionError):
    """Nothing listens on the agent's address."""


class RayAgentTLSError(RayAgentConnectionError):
    """The TLS handshake failed: unknown CA, wrong host name, or a server that uses plain HTTP."""


class RayAgentTimeoutError(RayAgentConnectionError):
    """The agent did not answer in time."""

    def __init__(self, detail: str, status_code: int | None = 408) -> None:
        super().__init__(detail, status_code)


class RayAgentConnectTimeoutError(RayAgentTimeoutError):
    """The connection was not established in time; no request was sent."""


class RayAgentRedirectError(RayAgentError):
    """The agent answered with a redirect, which was not followed since it would send the token elsewhere."""


class RayAgentHTTPError(RayAgentError):
    """The agent answered with an error status.

    ``retry_after`` is the value of the ``Retry-After`` header in seconds, or ``None``.
    """

    retry_after: float | None = None


class RayAgentAuthenticationError(RayAgentHTTPError):
    """401: the agent token is missing or invalid."""


class RayAgentPermissionError(RayAgentHTTPError):
    """403: the token is valid, but does not permit the request."""


class RayAgentNotFoundError(RayAgentHTTPError):
    """404: the agent does not know the job, node, task or application."""


class RayAgentRateLimitError(RayAgentHTTPError):
    """429: too many requests."""


class RayAgentServerError(RayAgentHTTPError):
    """5xx: the agent, Ray or a proxy in between failed."""


class RayAgentGPUUnavailableError(RayAgentHTTPError):
    """503 with ``gpu_unavailable``: the cluster lacks the requested GPUs. The agent itself is available."""


class RayAgentResourcesError(RayAgentError):
    """The cluster does not have the resources that a job's entrypoint or a capacity sensor requires, free or in use."""

    def __init__(self, detail: str, status_code: int | None = 409) -> None:
        super().__init__(detail, status_code)


class RayAgentResponseError(RayAgentError):
    """The response is not one of an agent: not JSON, of another shape, empty, or a 404 with an HTML page."""


class RayAgentStreamLimitError(RayAgentError):
    """A log stream exceeded one of the caller's ``StreamLimits``."""

    def __init__(self, detail: str, status_code: int | None = 429) -> None:
        super().__init__(detail, status_code)


class RayAgentLogsUnavailableError(RayAgentError):
    """The job's log could not be read completely, although its status could."""


def for_status(status: int, detail: str) -> RayAgentHTTPError:
    """Return the error for an HTTP error status."""
    known: dict[int, type[RayAgentHTTPError]] = {
        401: RayAgentAuthenticationError,
        403: RayAgentPermissionError,
        404: RayAgentNotFoundError,
        429: RayAgentRateLimitError,
    }
    kind = known.get(status) or (RayAgentServerError if status >= 500 else RayAgentHTTPError)
    return kind(detail, status)


def error_to_json(error: RayAgentError | None) -> list[Any] | None:
    """Return an error as JSON primitives, with its message truncated."""
    return None if error is None else [type(error).__name__, _truncate(error.detail), error.status_code]


def error_from_json(value: Any) -> RayAgentError | None:
    """Return the error that :func:`error_to_json` has serialized.

    :raises TypeError: if ``value`` is not a serialized error.
    """
    return None if value is None else _error(*value)


def _truncate(text: str) -> str:
    # The message is redacted, so truncation cannot split a secret.
    text = text[:MAX_DETAIL]
    while len(json.dumps(text)) > 1.5 * MAX_DETAIL:
        text = text[: len(text) // 2]
    return text


def _error(name: str, detail: str, status_code: int | None) -> RayAgentError:
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, RayAgentError)):
        kind = RayAgentError
    return kind(detail, status_code)
