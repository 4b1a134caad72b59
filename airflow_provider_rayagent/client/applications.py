"""Wait for a Serve application: decide by its status whether to continue. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_provider_rayagent.client.errors import (
    RayAgentError,
    RayAgentResponseError,
    error_from_json,
    error_to_json,
)
from airflow_provider_rayagent.client.jobs import primitive, shown_status
from airflow_provider_rayagent.client.transience import is_permanent
from airflow_provider_rayagent.text.sanitization import truncate
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Target = Literal["running", "gone"]
TARGETS: tuple[Target, ...] = ("running", "gone")
FAILING = ("DEPLOY_FAILED", "UNHEALTHY")
"""Statuses of a failing application; Ray tries to recover an UNHEALTHY one."""

FAST_POLL_SECONDS = 1.0
"""Maximum interval between two polls while the application is failing or the agent is unreachable."""
MAX_DEPLOYMENTS = 100
"""Number of deployments in a summary; further ones are omitted."""
MAX_NAME = 200
"""Characters of a deployment's name in a summary."""

_FIELDS = ("name", "status", "message", "route_prefix", "docs_path", "last_deployed_time_s")


class ServeStatus(str, Enum):
    """Status of a Serve application (``ray.serve.schema.ApplicationStatus``)."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    DELETING = "DELETING"
    UNAVAILABLE = "UNAVAILABLE"


class WaitResult(str, Enum):
    """Why waiting for an application ended."""

    REACHED = "reached"
    FAILED = "failed"
    AGENT_UNREACHABLE = "agent unreachable"
    TIMED_OUT = "timed out"


class ApplicationEvent(TypedDict):
    """The event of :class:`RayAgentServeApplicationTrigger`. ``error`` is the value of :func:`error_to_json`."""

    arrival: str | None
    application: dict[str, Any] | None
    error: list[Any] | None


@dataclass(frozen=True)
class ApplicationOutcome:
    """The outcome of waiting.

    :param result: why waiting ended; ``None`` while it continues.
    :param application: summary of the application as last received; ``None`` if it was unknown to the agent.
    :param error: error of the last request, or ``None``.
    """

    result: WaitResult | None
    application: dict[str, Any] | None = None
    error: RayAgentError | None = None

    @property
    def status(self) -> str:
        """The status, for messages."""
        return shown_status(self.application) if self.application else "not there"

    def to_event(self) -> ApplicationEvent:
        """Return the outcome as an object that can be stored in a trigger's event."""
        event: ApplicationEvent = {
            "arrival": self.result.value if self.result else None,
            "application": self.application,
            "error": error_to_json(self.error),
        }
        return storable(event)

    @classmethod
    def from_event(cls, event: object) -> ApplicationOutcome:
        """Return the outcome that :meth:`to_event` has serialized.

        :raises RayAgentResponseError: if ``event`` is not a serialized outcome.
        """
        try:
            result, application, error = (event[key] for key in ("arrival", "application", "error"))  # type: ignore[index]
            if application is not None:
                application = {"status": None, "deployments": {}, **application}
            return cls(WaitResult(result) if result is not None else None, application, error_from_json(error))
        except (KeyError, TypeError, ValueError):
            raise RayAgentResponseError(
                f"The trigger's event is not one of RayAgentServeApplicationTrigger: {event!r:.200}"
            ) from None


@dataclass
class ApplicationWait:
    """State of waiting for one application to be RUNNING, or gone.

    :param target: ``running`` or ``gone``.
    :param grace_period: seconds for which it may be DEPLOY_FAILED or UNHEALTHY.
    :param unreachable_timeout: seconds for which requests for its status may fail.
    :param redact: redacts secrets.
    """

    target: Target
    grace_period: float
    unreachable_timeout: float
    redact: Callable[[str], str] = str
    last: ApplicationOutcome = field(default_factory=lambda: ApplicationOutcome(None))
    """The last outcome."""
    _failing_since: float | None = None
    _unreadable_since: float | None = None
    _answered: bool = False

    @property
    def needs_fast_poll(self) -> bool:
        """Whether a timeout is running, so that the status should be polled soon."""
        return self._failing_since is not None or self._unreadable_since is not None

    def seen(self, application: Mapping[str, Any] | None, now: float) -> ApplicationOutcome:
        """Process the application's details, ``None`` if it is unknown to the agent. Return the outcome so far."""
        self._answered, self._unreadable_since = True, None
        summary = None if application is None else summarize(application, self.redact)
        status = summary["status"] if summary else None
        result = None
        if self.target == "gone":
            result = WaitResult.REACHED if summary is None else None
        elif status == "RUNNING":
            result = WaitResult.REACHED
        if self.target == "running" and status in FAILING:
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since >= self.grace_period:
                result = WaitResult.FAILED
        else:
            self._failing_since = None
        self.last = ApplicationOutcome(result, summary)
        return self.last

    def failed(self, error: RayAgentError, now: float) -> ApplicationOutcome:
        """Process a failed request. Return the outcome so far."""
        self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
        is_final = is_permanent(error) and not self._answered
        given_up = is_final or now - self._unreadable_since >= self.unreachable_timeout
        self.last = ApplicationOutcome(WaitResult.AGENT_UNREACHABLE if given_up else None, self.last.application, error)
        return self.last


def find_by_name(applications: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Return the application with that name from the agent's list, or ``None``.

    Only the list shows reliably that an application is gone: a 404 may come from a wrong path or from a proxy.
    """
    return next((each for each in applications if each.get("name") == name), None)


def summarize(application: Mapping[str, Any], redact: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a small summary of an application's details for XCom.

    The keys are ``name``, ``status``, ``message``, ``route_prefix``, ``docs_path``, ``last_deployed_time_s`` (seconds
    since the epoch) and ``deployments``, which maps the name of each deployment to its status.
    """
    summary: dict[str, Any] = {name: primitive(application.get(name), redact) for name in _FIELDS}
    deployments = application.get("deployments")
    found = deployments.items() if isinstance(deployments, dict) else ()
    summary["deployments"] = {
        truncate(redact(str(name)), MAX_NAME): primitive(each.get("status"), redact)
        for name, each in list(found)[:MAX_DEPLOYMENTS]
        if isinstance(each, dict)
    }
    return storable(summary)
