"""Wait for a state of the cluster while requests for it may fail. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentResponseError,
    error_from_json,
    error_to_json,
)
from airflow_provider_rayagent.errors.transience import is_permanent
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

POLL_SECONDS = 5.0
"""Default interval between two status checks."""
MIN_POLL_SECONDS = 0.5
"""Minimum interval between two polls by a trigger, or of a job that a task follows: a sensor's ``poke_interval`` may
be 0."""
FAST_POLL_SECONDS = 1.0
"""Maximum interval between two polls while a timeout is running; see :attr:`WaitState.needs_fast_poll`."""


class WaitResult(str, Enum):
    """Why waiting ended."""

    REACHED = "reached"
    FAILED = "failed"
    AGENT_UNREACHABLE = "agent unreachable"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class WaitOutcome:
    """The outcome of waiting.

    :param result: why waiting ended; ``None`` while it continues.
    :param summary: summary of what was last received, or ``None``.
    :param error: error of the last request, or why waiting failed; or ``None``.
    """

    result: WaitResult | None
    summary: dict[str, Any] | None = None
    error: RayAgentError | None = None

    key: ClassVar[str]
    """Key of ``summary`` in the event."""
    trigger: ClassVar[str]
    """Name of the trigger, for messages."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Values for keys that ``summary`` does not have in an event."""

    @property
    def status(self) -> str:
        """The last state, for messages."""
        raise NotImplementedError

    def to_event(self) -> dict[str, Any]:
        """Return the outcome as an object that can be stored in a trigger's event.

        ``error`` is the value of :func:`error_to_json`.
        """
        # The keys must stay: during an upgrade, a worker reads the event of another version's trigger.
        event: dict[str, Any] = {
            "arrival": self.result.value if self.result else None,
            self.key: self.summary,
            "error": error_to_json(self.error),
        }
        return storable(event)

    @classmethod
    def from_event(cls, event: object) -> Self:
        """Return the outcome that :meth:`to_event` has serialized.

        :raises RayAgentResponseError: if ``event`` is not a serialized outcome.
        """
        try:
            result, summary, error = (event[key] for key in ("arrival", cls.key, "error"))  # type: ignore[index]
            if summary is not None:
                summary = {**cls.defaults, **summary}
            return cls(WaitResult(result) if result is not None else None, summary, error_from_json(error))
        except (KeyError, TypeError, ValueError):
            raise RayAgentResponseError(f"The trigger's event is not one of {cls.trigger}: {event!r:.200}") from None


OutcomeT = TypeVar("OutcomeT", bound=WaitOutcome)


class WaitState(Generic[OutcomeT]):
    """State of waiting.

    :ivar unreachable_timeout: seconds for which requests may fail.
    :ivar last: the last outcome.
    """

    unreachable_timeout: float
    last: OutcomeT
    # Class attributes and no fields of the dataclasses derived from this, which is none: they are no arguments.
    _unreadable_since: float | None = None
    _answered: bool = False

    @property
    def needs_fast_poll(self) -> bool:
        """Whether a timeout is running, so that the state should be polled soon."""
        return self._unreadable_since is not None

    def poll(self, read: Callable[[], Any], now: float) -> OutcomeT:
        """Read the state once. Return the outcome so far.

        :param read: sends the request, and returns what :meth:`received` processes, or raises a :class:`RayAgentError`.
        """
        try:
            return self.received(read(), now)
        except RayAgentError as error:
            return self.failed(error, now)

    def received(self, found: Any, now: float) -> OutcomeT:
        """Process what was received. Return the outcome so far."""
        raise NotImplementedError

    def failed(self, error: RayAgentError, now: float) -> OutcomeT:
        """Process a failed request. Return the outcome so far."""
        self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
        # After a good response, a 401 or 404 may be that of a proxy, or of an agent that restarts; before, the
        # connection is wrong.
        is_final = is_permanent(error) and not self._answered
        given_up = is_final or now - self._unreadable_since >= self.unreachable_timeout
        # The summary stays: the message of a timeout tells the last known state.
        self.last = replace(self.last, result=WaitResult.AGENT_UNREACHABLE if given_up else None, error=error)
        return self.last

    def _record_response(self) -> None:
        self._answered, self._unreadable_since = True, None
