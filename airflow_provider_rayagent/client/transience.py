"""What an error means for the next request: one table, used wherever a failed request is handled. Pure.

Callers ask different questions of the same error, and the answers differ:

- May the request be sent again within seconds? :func:`is_transient`
- Is it of no use to ask again, however long one waits? :func:`is_permanent`. An error that is neither is not worth a
  second request at once, but the next look at a status, some seconds later, may well succeed.
- May somebody have received the request? :func:`may_have_been_received`. A POST is then never sent again.
- Is it open what becomes of the request? :func:`is_outcome_unknown`. Then a job that it was to start may still appear.
- Does the error say that a job's log can't be read? :func:`is_log_unreadable`. An agent that is away, or that refuses
  the token, says nothing of the log.

The rows are by status for an answer of the agent or of a proxy (:data:`STATUSES`), by class for everything else
(:data:`ERRORS`). Section numbers are those of RFC 9110 unless another RFC is named.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from airflow_provider_rayagent.client.errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentConnectionRefusedError,
    RayAgentConnectTimeoutError,
    RayAgentError,
    RayAgentGPUUnavailableError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNameResolutionError,
    RayAgentRedirectError,
    RayAgentResponseError,
    RayAgentTLSError,
    RayAgentUnsupportedError,
)


class Permanence(Enum):
    """How long the cause of an error lasts."""

    TRANSIENT = "transient"
    """It often passes within seconds."""
    UNKNOWN = "unknown"
    """It may pass."""
    PERMANENT = "permanent"
    """Somebody has to change something first: the connection, the DAG, the agent's token."""


class Delivery(Enum):
    """How far the request came."""

    NEVER_SENT = "never sent"
    UNKNOWN = "unknown"
    """It may have been received, and may still be carried out."""
    ANSWERED = "answered"
    """Somebody has received it and is done with it; what it has changed, if anything, shows at once."""


class Row(NamedTuple):
    """What is known of a request that failed in a certain way.

    :param of_log: whether the answer to a request for a log is about that log.
    """

    permanence: Permanence
    delivery: Delivery
    of_log: bool = False


_REFUSED = Row(Permanence.PERMANENT, Delivery.ANSWERED, of_log=True)
"""The answer to this request stays the same."""
_NO_ACCESS = Row(Permanence.PERMANENT, Delivery.ANSWERED)
"""Somebody between us and the job's log wants other credentials."""
_BUSY = Row(Permanence.TRANSIENT, Delivery.ANSWERED)
"""Refused without being carried out; the same request is welcome in a moment."""
_NO_ANSWER = Row(Permanence.TRANSIENT, Delivery.UNKNOWN)
"""The connection broke, or a proxy or an agent that stops or starts answers: nobody knows how far the request came."""
_NOT_THE_AGENT = Row(Permanence.UNKNOWN, Delivery.UNKNOWN)
"""Something else than the agent has answered."""

STATUSES: dict[int, Row] = {
    401: _NO_ACCESS,
    403: _NO_ACCESS,
    407: _NO_ACCESS,
    # 15.5.9: the client may repeat the request. Gateways send it where the agent took too long, too.
    408: _NO_ANSWER,
    # RFC 8470, 5.2, and RFC 6585, 4: not carried out, to be sent again later.
    425: _BUSY,
    429: _BUSY,
    # The agent's own failure. Of Ray's it may be one that passes (its control service is down), or one that stays
    # (the whole log is not valid UTF-8).
    500: Row(Permanence.UNKNOWN, Delivery.ANSWERED, of_log=True),
    # 15.6.2 and 15.6.6: the server does not have what was asked for.
    501: _REFUSED,
    505: _REFUSED,
    502: _NO_ANSWER,
    503: _NO_ANSWER,
    504: _NO_ANSWER,
}
"""The rows of statuses; see :func:`row_of_status` for all others."""

ERRORS: dict[type[RayAgentError], Row] = {
    # Nothing is known: sent once, asked again later.
    RayAgentError: Row(Permanence.UNKNOWN, Delivery.UNKNOWN),
    RayAgentInputError: Row(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentConfigError: Row(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentUnsupportedError: Row(Permanence.PERMANENT, Delivery.NEVER_SENT),
    RayAgentConnectionError: _NO_ANSWER,
    RayAgentNameResolutionError: Row(Permanence.TRANSIENT, Delivery.NEVER_SENT),
    RayAgentConnectionRefusedError: Row(Permanence.TRANSIENT, Delivery.NEVER_SENT),
    RayAgentConnectTimeoutError: Row(Permanence.TRANSIENT, Delivery.NEVER_SENT),
    # With TLS 1.3 a client sends its request right after the handshake's last message (RFC 8446, figure 1), and learns
    # only then that the server refuses its certificate.
    RayAgentTLSError: Row(Permanence.PERMANENT, Delivery.UNKNOWN),
    # Not followed, since the token must not go there: a login page, or another address of the agent's.
    RayAgentRedirectError: Row(Permanence.PERMANENT, Delivery.ANSWERED),
    # A proxy's page in place of the agent's answer, or an answer that was cut.
    RayAgentResponseError: _NOT_THE_AGENT,
    # An answer, though with status 503: a moment changes nothing, other jobs' ends may.
    RayAgentGPUUnavailableError: Row(Permanence.UNKNOWN, Delivery.ANSWERED),
}
"""The rows of errors that are not looked up by their status; a class without a row has that of its base."""


def row_of_status(status: int) -> Row:
    """Return the row of an error status; one without a row of its own is taken by its class (section 15).

    Such a 5xx is a gateway's: an agent sends none but those above.
    """
    return STATUSES.get(status) or (_NOT_THE_AGENT if status >= 500 else _REFUSED)


def row_of(error: BaseException) -> Row:
    """Return the row of an error; that of :class:`RayAgentError` for an exception that is not ours."""
    status = error.status_code if isinstance(error, RayAgentHTTPError) else None
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
        if kind is RayAgentHTTPError and status is not None:
            return row_of_status(status)
    return ERRORS[RayAgentError]


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed within seconds."""
    return row_of(error).permanence is Permanence.TRANSIENT


def is_permanent(error: BaseException) -> bool:
    """Whether no later request can succeed until somebody changes something.

    404 is permanent too. Where the agent may not know a job or an application *yet*, or where one is to vanish, it is
    an answer, which the caller takes before it asks this.
    """
    return row_of(error).permanence is Permanence.PERMANENT


def may_have_been_received(error: BaseException) -> bool:
    """Whether the request may have reached the agent, so that one that is not idempotent must not be sent again."""
    return row_of(error).delivery is not Delivery.NEVER_SENT


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether the request may still be carried out, so that its effect is to be looked for."""
    return row_of(error).delivery is Delivery.UNKNOWN


def is_log_unreadable(error: BaseException) -> bool:
    """Whether the answer to a request for a job's log says that this log can't be read."""
    return row_of(error).of_log
