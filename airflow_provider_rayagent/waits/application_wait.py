"""Wait for a Serve application: decide by its status whether to continue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError
from airflow_provider_rayagent.services.jobs import primitive, shown_status
from airflow_provider_rayagent.text.sanitization import truncate
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.waits.waiting import Wait, WaitOutcome, WaitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.transport.service_client import ServiceClient

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
        if not self.summary:
            return "not there"
        status = shown_status(self.summary)
        return f"{status} (an earlier deployment)" if self.summary.get("is_earlier_deployment") else status


@dataclass
class ApplicationWait(Wait[ApplicationOutcome]):
    """Wait for one application to be RUNNING, or gone.

    :param target: ``running`` or ``gone``.
    :param grace_period: seconds for which it may be DEPLOY_FAILED or UNHEALTHY.
    :param deployed_after: time (seconds since the epoch, on Ray's clock) of which an earlier deployment does not count;
        ``None``: every deployment counts.
    """

    name: str
    target: Target = "running"
    grace_period: float = 30.0
    agent_unreachable_timeout: float = 300.0
    poll_interval: float = 5.0
    deployed_after: float | None = None
    outcome_type = ApplicationOutcome
    _failing_since: float | None = field(default=None, init=False)

    @property
    def needs_fast_poll(self) -> bool:
        """Whether a timeout is running, so that the status should be polled soon."""
        return self._failing_since is not None or super().needs_fast_poll

    def describe(self, status: str) -> str:
        """Return a message about a new status."""
        return f"The Serve application {self.name!r} is {status}."

    async def _read(self, client: ServiceClient) -> dict[str, Any] | None:
        self._redact = client.config.redact
        return await find_application(client, self.name)

    def _judge(self, found: Mapping[str, Any] | None, now: float) -> ApplicationOutcome:
        """Judge the application's details, ``None`` if it is unknown to the agent."""
        summary = None if found is None else summarize(found, self._redact)
        status = summary["status"] if summary else None
        if summary is not None and not self._counts(summary["last_deployed_time_s"]):
            summary["is_earlier_deployment"], status = True, None
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
        return ApplicationOutcome(result, summary)

    def _counts(self, deployed: object) -> bool:
        """Whether a deployment counts, by its time."""
        return self.deployed_after is None or (isinstance(deployed, (int, float)) and deployed > self.deployed_after)


async def find_application(client: ServiceClient, name: str) -> dict[str, Any] | None:
    """Return an application, ``None`` if it does not exist.

    :raises RayAgentError: if the request fails.
    """
    service = client.config.service
    try:
        found: dict[str, Any] = await client.ask(service.get_serve_application(name))
    except RayAgentNotFoundError:
        # A 404 may also come from a wrong path or a proxy; only the list shows that the application does not exist.
        applications = await client.ask(service.list_serve_applications())
        return next((each for each in applications if each.get("name") == name), None)
    return found


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
