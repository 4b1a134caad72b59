"""What the events of a task's outlets tell of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_provider_rayagent.run.started_by_watchers import watchers_of
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from airflow_provider_rayagent.render.messages import MessageFinder
    from airflow_provider_rayagent.services.jobs import JobSummary


def add_extras(context: Context, outlets: Iterable[Any], messages: MessageFinder, job: JobSummary) -> None:
    """Add to the events of the assets among the outlets what the job has printed for them, and which job it was."""
    for outlet in outlets:
        if isinstance(outlet, Asset):
            printed = messages.extra_of(outlet.name, outlet.uri)
            own = {"job_id": job["job_id"], "duration": job["duration"], **watchers_of(context["dag_run"])}
            context["outlet_events"][outlet].extra.update(storable({**printed, **own}))
