"""Errors of requests to an agent.

Every error has a ``code`` (:class:`Code`), a ``status_code`` (the HTTP status or, without a response, the closest one:
400 for invalid input, 408 for a timeout, 503 for a failed connection) and a ``detail``, a message that is safe for the
task log (:func:`sanitize`). ``str()`` of an error is its code and its detail, so a message that quotes an error and has
a code of its own quotes the detail. No error contains a token.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONFLICT = 409
"""Status of a response that a job's id is taken, on Ray or in an agent's queue."""
MAX_DETAIL = 1_000
"""Characters of an error's message in a trigger's event, which Airflow prints to the task log."""


class RayAgentError(Exception):
    """Base class of all errors that this package raises for an agent, a request or a job.

    :param detail: message with the cause and the remedy; text from outside must already be redacted and truncated.
    :param status_code: an HTTP status; default: that of the class, or ``None`` if none applies.
    :param code: the code of the problem; default: that of the class.

    ``code`` is a string such as ``RA-201``, which :doc:`/error-codes` explains. ``failure_kind`` is what caused the
    failure of a job: ``program``, one of the kinds of :class:`.RayAgentRetryPolicy`, or ``None``. ``causes`` is what
    Ray has recorded about the failure of a job: plain records, the first cause first (:ref:`what-ray-recorded`).
    """

    code: Code = Code.SERVICE_FAILED
    failure_kind: str | None = None
    causes: Sequence[Mapping[str, Any]] = ()
    is_of_preparation: bool = False
    """Whether a step before the request failed, which was therefore not sent (:func:`preparation`)."""
    _usual_status: ClassVar[int | None] = None

    def __init__(self, detail: str, status_code: int | None = None, *, code: Code | None = None) -> None:
        self.detail = sanitize(detail, lines=True)
        super().__init__(self.detail)
        self.status_code = self._usual_status if status_code is None else status_code
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return coded(self.code, self.detail)

    def __reduce__(self) -> tuple[type[RayAgentError], tuple[str, int | None], dict[str, Any]]:
        return type(self), (self.detail, self.status_code), self.__dict__


# A ValueError as well: ``_seconds`` in ``connection/config.py`` relies on it.
class RayAgentInputError(RayAgentError, ValueError):
    """An argument is invalid, such as an id, a name, a timeout or a protocol; no request was sent."""

    code = Code.INVALID_ARGUMENT
    _usual_status = 400


class RayAgentConfigError(RayAgentError, ValueError):
    """The Airflow connection is incomplete or malformed: no host, an invalid port, an extra field of the wrong type."""

    code = Code.CONNECTION_SETTING


class RayAgentUnsupportedError(RayAgentError):
    """The service of the connection cannot do this; nothing was sent."""

    code = Code.UNSUPPORTED
    _usual_status = 501


class RayAgentConnectionError(RayAgentError):
    """The connection to the agent failed, or broke before the response was complete."""

    code = Code.NO_ANSWER
    _usual_status = 503


class RayAgentUnreachableError(RayAgentConnectionError):
    """There is no connection to the agent; no request was sent.

    Its host name cannot be resolved, nothing listens on its address, or the connection was not established in time.
    """

    code = Code.UNREACHABLE


class RayAgentAbsentError(RayAgentUnreachableError):
    """There is no service at the address: its host name is unknown, or the connection is refused."""


class RayAgentTLSError(RayAgentConnectionError):
    """The TLS handshake failed: unknown CA, wrong host name, or a server that uses plain HTTP."""

    code = Code.TLS


class RayAgentTimeoutError(RayAgentConnectionError):
    """The agent did not answer in time."""

    _usual_status = 408


class RayAgentHTTPError(RayAgentError):
    """The agent answered with an error status, or with a redirect, which is not followed.

    ``retry_after`` is the value of the ``Retry-After`` header in seconds, or ``None``.
    """

    code = Code.REQUEST_REFUSED
    retry_after: float | None = None
    is_foreign: bool = False
    """Whether the answer has no form of the service, and so may be that of another one."""


class RayAgentNotFoundError(RayAgentHTTPError):
    """404: the agent does not know the job, node, task or application."""


class RayAgentServerError(RayAgentHTTPError):
    """5xx: the agent, Ray or a proxy in between failed."""

    code = Code.SERVICE_FAILED


class RayAgentResourcesError(RayAgentError):
    """The cluster lacks what a job or a capacity sensor requires; no job was started.

    503: an agent has not enough GPUs free for a plugin. 409: no node has that much in total, free or in use.
    """

    code = Code.NO_FREE_RESOURCES
    _usual_status = 409


class RayAgentResponseError(RayAgentError):
    """The response is not one of the service: not JSON, of another shape, empty, or a 404 in another form."""

    code = Code.NOT_THE_SERVICE


class RayAgentStreamLimitError(RayAgentError):
    """A log stream exceeded one of the caller's ``StreamLimits``."""

    code = Code.STREAM_LIMIT
    _usual_status = 429


class RayAgentLogsUnavailableError(RayAgentError):
    """The job's log could not be read completely, although its status could.

    Raised by the log methods of the hooks, and by a task with ``read_result="required"``.
    """

    code = Code.LOG_INCOMPLETE


@contextmanager
def preparation() -> Iterator[None]:
    """Mark the errors of steps before a request that has an effect, such as an upload before a submission."""
    try:
        yield
    except RayAgentError as error:
        error.is_of_preparation = True
        raise


def for_status(status: int, detail: str) -> RayAgentHTTPError:
    """Return the error for an HTTP error status."""
    kind = RayAgentNotFoundError if status == 404 else RayAgentServerError if status >= 500 else RayAgentHTTPError
    return kind(detail, status, code=_CODES.get(status))


_CODES = {
    401: Code.TOKEN,
    # Ray responds with 403 to a wrong token.
    403: Code.TOKEN,
    429: Code.SERVICE_FAILED,
}
"""The codes of statuses that differ from that of their class."""


def working_dir_error(detail: str) -> RayAgentInputError:
    """Return the error for a ``working_dir`` that cannot be sent."""
    return RayAgentInputError(detail, code=Code.WORKING_DIR)


def error_to_json(error: RayAgentError | None) -> list[Any] | None:
    """Return an error as JSON primitives, with its message truncated.

    The code is left out if it is that of the class: during an upgrade, an earlier version that does not know codes may
    read the event of a trigger.
    """
    if error is None:
        return None
    own_code = [] if error.code is type(error).code else [error.code.value]
    return [type(error).__name__, _truncate(error.detail), error.status_code, *own_code]


def error_from_json(value: Any) -> RayAgentError | None:
    """Return the error that :func:`error_to_json` has serialized.

    :raises TypeError: if ``value`` is not a serialized error.
    """
    return None if value is None else _error(*value)


def _truncate(text: str) -> str:
    # The message is redacted, so truncation cannot split a secret.
    text = text[:MAX_DETAIL]
    # In JSON, a character that is not ASCII is an escape of 6 or 12 characters.
    while len(json.dumps(text)) > 1.5 * MAX_DETAIL:
        text = text[: len(text) // 2]
    return text


def _error(name: str, detail: str, status_code: int | None, code: str | None = None) -> RayAgentError:
    """Return an error; a trigger of a later version may have sent an unknown code."""
    # Only a class of this module: what an event names must not be imported.
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, RayAgentError)):
        kind = RayAgentError
    return kind(detail, status_code, code=_KNOWN_CODES.get(code) if isinstance(code, str) else None)


_KNOWN_CODES = {code.value: code for code in Code}
