"""The outcome of following a job, as a trigger's event carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentError,
    RayAgentResponseError,
    error_from_json,
    error_to_json,
)
from airflow_provider_rayagent.exceptions import RayAgentJobMissingError
from airflow_provider_rayagent.services.jobs import milliseconds, node_of, shown_status
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize, truncate
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.transport.tail_driver import Follower


class _JobDetails(TypedDict, total=False):
    start_time: float
    end_time: float
    driver_node_id: str


MAX_STALL = 300
"""Characters of what is known of a job that has stalled."""
_DETAILS = tuple(_JobDetails.__annotations__)


class _OptionalParts(_JobDetails, total=False):
    stall: str


class JobEvent(_OptionalParts):
    """The event of :class:`RayAgentJobTrigger`. ``error`` is the value of :func:`error_to_json`."""

    end: str | None
    status: str | None
    error: list[Any] | None


@dataclass(frozen=True)
class Outcome:
    """The outcome of following a job.

    :param end: why it ended; ``None`` if it was stopped early, or if ``error`` prevented the start.
    :param job: the last known details of the job; from an event, only its ``status``, times and node.
    :param error: the last error of the status request.
    :param stall: what is known of a job that has stalled, safe to show.
    """

    end: End | None
    job: Mapping[str, Any] | None = None
    error: RayAgentError | None = None
    stall: str = ""

    @classmethod
    def of(cls, follower: Follower) -> Outcome:
        """Return the outcome of ``following``."""
        return cls(follower.end, follower.job, follower.error, truncate(follower.stall, MAX_STALL))

    def to_event(self, redact: Callable[[str], str] = str) -> JobEvent:
        """Return a storable object, under 2 KB: Airflow prints it to the task log and stores it as plain text.

        :param redact: redacts secrets in the status and the node; errors are already redacted.
        """
        event: JobEvent = {
            "end": self.end.value if self.end else None,
            "status": shown_status(self.job, redact) if self.job else None,
            "error": error_to_json(self.error),
            **_optional_parts(self.job or {}, self.stall, redact),
        }
        return storable(event)

    @classmethod
    def from_event(cls, event: object) -> Outcome:
        """Return the outcome from a value of :meth:`to_event`.

        :raises RayAgentResponseError: if the event is invalid.
        """
        try:
            # A trigger of a later version may send further keys.
            end, status, error = (event[key] for key in ("end", "status", "error"))  # type: ignore[index]
            # A trigger of an earlier version sends none.
            stall = event.get("stall")  # type: ignore[attr-defined]
            details = {name: event[name] for name in _DETAILS if name in event}  # type: ignore[index,operator]
            return cls(
                End(end) if end is not None else None,
                {"status": status, **details} if status is not None else None,
                error_from_json(error),
                sanitize(stall, length=MAX_NOTICE) if isinstance(stall, str) else "",
            )
        except (KeyError, TypeError, ValueError):
            raise RayAgentResponseError(
                f"The trigger's event is not one of RayAgentJobTrigger: {event!r:.200}"
            ) from None


def lost_with_cluster(job_id: str, cluster: str | None, error: RayAgentError | None) -> RayAgentJobMissingError:
    """Return the error for a job whose cluster is gone.

    :param error: how that is known.
    """
    why = error.detail if error else "it is absent."
    return RayAgentJobMissingError(f"Cluster {shown(cluster)} is gone, and job {job_id} with it: {why}")


def _optional_parts(job: Mapping[str, Any], stall: str, redact: Callable[[str], str]) -> _OptionalParts:
    """Return the details from which the links to the job's pages are made, and a stall, as far as they are known."""
    found = {
        "start_time": milliseconds(job.get("start_time")),
        "end_time": milliseconds(job.get("end_time")),
        "driver_node_id": node_of(job, redact),
        "stall": stall or None,
    }
    return cast("_OptionalParts", {name: value for name, value in found.items() if value is not None})
