"""What the OpenLineage events of a task say about its job.

Airflow's provider sends the events, with the parent run, the owner, the error and the type of the job. It adds the
facets that a task returns, in a process of its own: an error here is a warning in the task log at most
(``DefaultExtractor`` in ``airflow/providers/openlineage/extractors/base.py``).
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_rayagent import __version__
from airflow_provider_rayagent.services import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_rayagent.connection.config import ServiceConfig

# OpenLineage requires the form prefix_name (https://openlineage.io/docs/spec/facets/custom-facets).
FACET = "rayagent_job"
"""Key of the facet in the facets of a run."""
PRODUCER = f"https://pypi.org/project/airflow-provider-rayagent/{__version__}"
"""Which software made the facet."""


def cluster_of(base_url: str) -> str:
    """Return host and port of a service's URL, the port also if it is the default one."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def facet_fields(config: ServiceConfig, job: Mapping[str, Any], job_id: str | None) -> dict[str, Any]:
    """Return the fields of the facet: redacted and bounded as in XCom; ``None``: unknown.

    :param job: what is known of the job, by the names of its details.
    :param job_id: its id, if it is known yet.
    """
    summary = jobs.summarize(job, job_id or "", config.redact)
    start, end = jobs.started_at(summary), jobs.ended_at(summary)
    return {
        "jobId": summary["job_id"] or None,
        "service": config.service.name,
        "cluster": cluster_of(config.base_url),
        "entrypoint": summary["entrypoint"],
        "metadata": summary["metadata"],
        "status": summary["status"],
        "startTime": start and start.isoformat(),
        "endTime": None if end is None else datetime.fromtimestamp(end, tz=timezone.utc).isoformat(),
    }


def operator_lineage(operator: Any, fields: Mapping[str, Any], task_instance: Any = None) -> OperatorLineage[Any, Any]:
    """Return what the provider adds to an event: the facet, and the inlets and outlets of the task.

    :param task_instance: that of the task, when it has ended.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    lineage: OperatorLineage[Any, Any] = OperatorLineage(
        run_facets={FACET: _facet_class()(**fields, producer=PRODUCER)}
    )
    # The provider does so itself only if no hook has reported an asset. One does wherever XComs are files: then the
    # outputs would be the XComs of the task (``ExtractorManager.extract_metadata``, ``airflow/sdk/io/path.py``).
    get_openlineage_listener().extractor_manager.extract_inlets_and_outlets(lineage, operator, task_instance)
    return lineage


@cache
def _facet_class() -> type[Any]:
    from attrs import define
    from openlineage.client.facet_v2 import RunFacet

    # Like those of Airflow's provider, its schema is that of every run facet, which permits further fields
    # (``airflow/providers/openlineage/plugins/facets.py``).
    @define
    class RayAgentJobRunFacet(RunFacet):
        """The Ray job of a task."""

        jobId: str | None  # noqa: N815 - names in OpenLineage
        service: str
        cluster: str
        entrypoint: str | None
        metadata: dict[str, Any] | str | None
        status: str | None
        startTime: str | None  # noqa: N815
        endTime: str | None  # noqa: N815

    return RayAgentJobRunFacet
