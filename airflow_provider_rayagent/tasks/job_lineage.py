"""The methods that Airflow's OpenLineage provider calls of a task that follows a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.lineage.run_facet import facet_fields, operator_lineage
from airflow_provider_rayagent.services.job_secrets import secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
    from airflow_provider_rayagent.run.job_run import JobRun


class LineageMixin:
    """Describe the job in the task's OpenLineage events."""

    _run: JobRun | None

    # For type checkers only: this class precedes the one that has it, and would hide it.
    if TYPE_CHECKING:
        hook: RayAgentHook

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the task starts, or resumes."""
        return self._lineage()

    # Also of a task that failed: without a method for this, the provider calls this one.
    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what is known when the task has ended."""
        return self._lineage(task_instance)

    def _expected_job(self) -> Mapping[str, Any]:
        """Return what is known of the job before the task has claimed it, by the names of :class:`JobSummary`."""
        return {}

    def _lineage(self, task_instance: Any = None) -> OperatorLineage[Any, Any]:
        job = dict(self._expected_job())
        job_id = job.pop("job_id", None)
        if self._run is not None:
            job_id = self._run.job_id
            job |= self._run.seen or {}
            # A worker that resumes a deferred task may not know them.
            self.hook.config.redact.add(secrets_of(job))
        return operator_lineage(self, facet_fields(self.hook.config, job, job_id), task_instance)
