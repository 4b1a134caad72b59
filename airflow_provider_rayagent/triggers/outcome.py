"""How the following of a job ended, in a form that a trigger's event can carry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.errors import (
    RayAgentError,
    RayAgentResponseError,
    error_from_json,
    error_to_json,
)
from airflow_provider_rayagent.client.jobs import shown_status
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.client.following import Following

TIMEOUT_MARGIN = 60.0
"""Seconds after a trigger's own deadline at which Airflow ends a deferral, should no triggerer have done so."""


def deferral_timeout(seconds: float) -> timedelta:
    """Return when Airflow is to end the deferral of a trigger that gives up by itself after so many seconds."""
    return timedelta(seconds=seconds + TIMEOUT_MARGIN)


@dataclass(frozen=True)
class Outcome:
    """How the following of a job ended.

    :param end: why; ``None`` if it was stopped before an end, or if ``error`` kept it from beginning.
    :param job: the job's details as last seen; of an event, its ``status`` alone.
    :param error: the last failure to ask for the status.
    """

    end: End | None
    job: Mapping[str, Any] | None = None
    error: RayAgentError | None = None

    @classmethod
    def of(cls, following: Following) -> Outcome:
        """Return how ``following`` ended."""
        return cls(following.end, following.job, following.error)

    def to_event(self, redact: Callable[[str], str] = str) -> dict[str, Any]:
        """Return a storable object, under 2 KB.

        :param redact: takes secrets out of the status; an error has none.
        """
        return storable(
            {
                "end": self.end.value if self.end else None,
                "status": shown_status(self.job, redact) if self.job else None,
                "error": error_to_json(self.error),
            }
        )

    @classmethod
    def from_event(cls, event: object) -> Outcome:
        """Return the outcome that :meth:`to_event` gave.

        :raises RayAgentResponseError: if ``event`` is not one.
        """
        try:
            end, status, error = (event[key] for key in ("end", "status", "error"))  # type: ignore[index]
            return cls(
                End(end) if end is not None else None,
                {"status": status} if status is not None else None,
                error_from_json(error),
            )
        except (KeyError, TypeError, ValueError):
            raise RayAgentResponseError(
                f"The trigger's event is not one of RayAgentJobTrigger: {event!r:.200}"
            ) from None
