"""Classification of errors, used wherever a failed request is handled. Pure.

The table answers these questions about an error:

- May a retry succeed within seconds? :func:`is_transient`
- Will every retry fail? :func:`is_permanent`. If an error is neither, the request is not retried immediately, but the
  next poll of a status, some seconds later, may succeed.
- May the request have been received? :func:`may_have_been_received`. If so, a POST is never sent again.
- Is the outcome of the request unknown? :func:`is_outcome_unknown`. If so, a job that it was to start may still appear.
- Does the error mean that a job's log is unreadable? :func:`is_log_unreadable`. An agent that is unreachable or rejects
  the token says nothing about the log.

A response of the agent or a proxy is classified by its status (:data:`STATUSES`), everything else by the class of the
error (:data:`ERRORS`). Section numbers refer to RFC 9110 unless another RFC is named.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentAbsentError,
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentTLSError,
    RayAgentUnreachableError,
    RayAgentUnsupportedError,
)


class Permanence(Enum):
    """How long the cause of an error lasts."""

    TRANSIENT = "transient"
    """Often only for seconds."""
    UNKNOWN = "unknown"
    """It may disappear."""
    PERMANENT = "permanent"
    """Until somebody changes the connection, the DAG or the agent's token."""


class Delivery(Enum):
    """Whether the request was delivered."""

    NEVER_SENT = "never sent"
    UNKNOWN = "unknown"
    """It may have been received, and may still be processed."""
    ANSWERED = "answered"
    """It was received and processed; its effects, if any, are visible."""


class Classification(NamedTuple):
    """Classification of a failed request.

    :param of_log: whether the error, in response to a request for a log, is about that log.
    """

    permanence: Permanence
    delivery: Delivery
    of_log: bool = False


_REFUSED = Classification(Permanence.PERMANENT, Delivery.ANSWERED, of_log=True)
"""The same request always gets the same response."""
_NO_ACCESS = Classification(Permanence.PERMANENT, Delivery.ANSWERED)
"""The agent or a proxy requires other credentials, or another URL."""
_BUSY = Classification(Permanence.TRANSIENT, Delivery.ANSWERED)
"""Rejected without being processed; the same request may be sent again shortly."""
_NO_ANSWER = Classification(Permanence.TRANSIENT, Delivery.UNKNOWN)
"""The connection broke, or the response comes from a proxy or an agent that is starting or stopping."""
_NOT_THE_AGENT = Classification(Permanence.UNKNOWN, Delivery.UNKNOWN)
"""The response does not come from the agent."""

STATUSES: dict[int, Classification] = {
    401: _NO_ACCESS,
    403: _NO_ACCESS,
    407: _NO_ACCESS,
    # 15.5.9: the client may repeat the request. Gateways also send it if the agent takes too long.
    408: _NO_ANSWER,
    # RFC 8470, 5.2, and RFC 6585, 4: not processed; to be sent again later.
    425: _BUSY,
    429: _BUSY,
    # A failure of the agent or of Ray, temporary (its control service is down) or not (the whole log is not valid
    # UTF-8).
    500: Classification(Permanence.UNKNOWN, Delivery.ANSWERED, of_log=True),
    # 15.6.2 and 15.6.6: the server does not support the method or the HTTP version.
    501: _REFUSED,
    505: _REFUSED,
    502: _NO_ANSWER,
    503: _NO_ANSWER,
    504: _NO_ANSWER,
}
"""The rows by status; see :func:`classification_of_status` for all others."""

ERRORS: dict[type[RayAgentError], Classification] = {
    # Nothing is known: no retry, but later polls.
    RayAgentError: Classification(Permanence.UNKNOWN, Delivery.UNKNOWN),
    RayAgentInputError: Classification(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentConfigError: Classification(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentUnsupportedError: Classification(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentConnectionError: _NO_ANSWER,
    RayAgentUnreachableError: Classification(Permanence.TRANSIENT, Delivery.NEVER_SENT),
    RayAgentAbsentError: Classification(Permanence.TRANSIENT, Delivery.NEVER_SENT),
    # With TLS 1.3, a client sends its request right after the last handshake message (RFC 8446, figure 1), before it
    # learns that the server rejects its certificate.
    RayAgentTLSError: Classification(Permanence.PERMANENT, Delivery.UNKNOWN),
    # A proxy's page instead of the agent's response, or a truncated response.
    RayAgentResponseError: _NOT_THE_AGENT,
    # Not an outage, even with status 503: other jobs end, and nodes join a cluster, but not within seconds.
    RayAgentResourcesError: Classification(Permanence.UNKNOWN, Delivery.ANSWERED),
}
"""The rows of errors that are not classified by their status; a class without a row inherits that of its base."""


def classification_of_status(status: int) -> Classification:
    """Return the row of a status other than 2xx; one without its own row is classified by its first digit (section 15).

    Such a 5xx comes from a gateway, since an agent sends only those above. A 3xx is a login page, or another address of
    the agent.
    """
    return STATUSES.get(status) or (_NOT_THE_AGENT if status >= 500 else _REFUSED if status >= 400 else _NO_ACCESS)


def classification_of(error: BaseException) -> Classification:
    """Return the row of an error; any other exception has the row of :class:`RayAgentError`."""
    status = error.status_code if isinstance(error, RayAgentHTTPError) else None
    for kind in type(error).__mro__:
        # A class with a row of its own precedes RayAgentHTTPError in the order, so that its status does not count.
        if kind in ERRORS:
            return ERRORS[kind]
        if kind is RayAgentHTTPError and status is not None:
            return classification_of_status(status)
    return ERRORS[RayAgentError]


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed within seconds."""
    return classification_of(error).permanence is Permanence.TRANSIENT


def is_permanent(error: BaseException) -> bool:
    """Whether no later request can succeed until somebody changes something.

    This includes 404. A caller that expects a job or an application to be unknown, *not yet* or no longer there, must
    handle 404 before it calls this.
    """
    return classification_of(error).permanence is Permanence.PERMANENT


def may_have_been_received(error: BaseException) -> bool:
    """Whether the request may have reached the agent; if so, a non-idempotent one must not be sent again."""
    return classification_of(error).delivery is not Delivery.NEVER_SENT


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether the request may still be processed, so that the caller must check for its effect."""
    return classification_of(error).delivery is Delivery.UNKNOWN


def is_log_unreadable(error: BaseException) -> bool:
    """Whether the error of a request for a job's log means that the log is unreadable."""
    return classification_of(error).of_log
