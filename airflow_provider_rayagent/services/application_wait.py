"""Wait for a Serve application: decide by its status whether to continue. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_rayagent.services.jobs import primitive, shown_status
from airflow_provider_rayagent.services.waiting import WaitOutcome, WaitResult, WaitState
from airflow_provider_rayagent.text.sanitization import truncate
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Target = Literal["running", "gone"]
TARGETS: tuple[Target, ...] = ("running", "gone")
FAILING = ("DEPLOY_FAILED", "UNHEALTHY")
"""Statuses of a failing application; Ray tries to recover an UNHEALTHY one."""

# Both bound a trigger's event, which Airflow stores in its database and prints to the task log.
MAX_DEPLOYMENTS = 100
"""Number of deployments in a summary; further ones are omitted."""
MAX_NAME = 200
"""Characters of a deployment's name in a summary."""

# Not ``deployed_app_config``, whose runtime environment may contain secrets.
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


class ApplicationOutcome(WaitOutcome):
    """The outcome of waiting for an application; ``summary`` is ``None`` if it was unknown to the agent."""

    key = "application"
    trigger = "RayAgentServeApplicationTrigger"
    defaults: ClassVar[Mapping[str, Any]] = {"status": None, "deployments": {}}

    @property
    def application(self) -> dict[str, Any] | None:
        """Summary of the application as last received; ``None`` if it was unknown to the agent."""
        return self.summary

    @property
    def status(self) -> str:
        """The status, for messages."""
        return shown_status(self.summary) if self.summary else "not there"


@dataclass
class ApplicationWait(WaitState[ApplicationOutcome]):
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

    @property
    def needs_fast_poll(self) -> bool:
        """Whether a timeout is running, so that the status should be polled soon."""
        return self._failing_since is not None or super().needs_fast_poll

    def received(self, found: Mapping[str, Any] | None, now: float) -> ApplicationOutcome:
        """Process the application's details, ``None`` if it is unknown to the agent. Return the outcome so far."""
        self._record_response()
        summary = None if found is None else summarize(found, self.redact)
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
