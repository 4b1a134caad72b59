"""Wait for a state of the cluster while requests for it may fail: what all waits have in common, and their loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentResponseError,
    error_from_json,
    error_to_json,
)
from airflow_provider_rayagent.errors.transience import is_permanent
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from typing_extensions import Self

FAST_POLL_SECONDS = 1.0
"""Maximum interval between two polls while a timeout is running; see :attr:`Wait.needs_fast_poll`."""


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


class Wait(Generic[OutcomeT]):
    """What is waited for, and the state of waiting. The classes derived from it are dataclasses.

    :ivar agent_unreachable_timeout: seconds for which requests may fail.
    :ivar poll_interval: seconds between two requests.
    """

    agent_unreachable_timeout: float
    poll_interval: float
    # Class attributes and no fields of the dataclasses derived from this, which is none: they are no arguments.
    outcome_type: ClassVar[type[WaitOutcome]]
    _last: WaitOutcome | None = None
    _redact: Callable[[str], str] = NO_SECRETS
    _unreadable_since: float | None = None
    _answered: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments by name, as JSON primitives."""
        # The derived classes are dataclasses.
        return {each.name: getattr(self, each.name) for each in fields(cast("Any", self)) if each.init}

    def outcome_of(self, event: object) -> OutcomeT:
        """Return the outcome in a trigger's event; see :meth:`WaitOutcome.from_event`."""
        return cast("OutcomeT", self.outcome_type.from_event(event))

    @property
    def last(self) -> OutcomeT:
        """The outcome of the last request."""
        return cast("OutcomeT", self._last or self.outcome_type(None))

    @property
    def needs_fast_poll(self) -> bool:
        """Whether a timeout is running, so that the state should be polled soon."""
        return self._unreadable_since is not None

    def describe(self, status: str) -> str:
        """Return a message about a new status."""
        return status

    async def poll(self, client: Any) -> OutcomeT:
        """Read the state once. Return the outcome so far.

        :param client: what :meth:`_read` asks.
        """
        try:
            found = await self._read(client)
        except RayAgentError as error:
            return self.failed(error, time.monotonic())
        return self.received(found, time.monotonic())

    async def until_decided(
        self,
        client: Any,
        *,
        seconds_left: Callable[[], float],
        pause: Callable[[float], Awaitable[object]],
        on_status: Callable[[str], object] = bool,
    ) -> OutcomeT:
        """Poll until there is an outcome, or no time is left.

        :param seconds_left: returns how many seconds are left. There is one more request when none are.
        :param pause: waits for some seconds; what it returns is true if the wait is to end.
        :param on_status: called with each new status, for messages.
        """
        shown: str | None = None
        while True:
            # Before the request, so that there is one more after the deadline.
            left = seconds_left()
            outcome = await self.poll(client)
            if outcome.status != shown:
                shown = outcome.status
                on_status(shown)
            if outcome.result is not None:
                return outcome
            seconds = min(self.poll_interval, FAST_POLL_SECONDS) if self.needs_fast_poll else self.poll_interval
            if left <= 0 or await pause(min(seconds, left)):
                return replace(outcome, result=WaitResult.TIMED_OUT)

    async def _read(self, client: Any) -> Any:
        """Return what :meth:`received` processes.

        :raises RayAgentError: if the request fails.
        """
        raise NotImplementedError

    def received(self, found: Any, now: float) -> OutcomeT:
        """Process what was received at ``now`` on the monotonic clock. Return the outcome so far."""
        self._answered, self._unreadable_since = True, None
        return self._keep(self._judge(found, now))

    def _judge(self, found: Any, now: float) -> OutcomeT:
        raise NotImplementedError

    def failed(self, error: RayAgentError, now: float) -> OutcomeT:
        """Process a failed request. Return the outcome so far."""
        self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
        # After a good response, a 401 or 404 may be that of a proxy, or of an agent that restarts; before, the
        # connection is wrong.
        is_final = is_permanent(error) and not self._answered
        given_up = is_final or now - self._unreadable_since >= self.agent_unreachable_timeout
        # The summary stays: the message of a timeout tells the last known state.
        return self._keep(replace(self.last, result=WaitResult.AGENT_UNREACHABLE if given_up else None, error=error))

    def _keep(self, outcome: OutcomeT) -> OutcomeT:
        self._last = outcome
        return outcome
