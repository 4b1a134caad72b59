"""The identity of a task instance, to which its job, XComs and state belong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from airflow_provider_rayagent.errors.service_errors import RayAgentUnsupportedError
from airflow_provider_rayagent.services.validation import is_loopback
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_MAPPED = -1
_KNOWN = frozenset({"dag_id", "run_id", "task_id", "map_index", "region_id", "region_index"})
_NO_IDENTITY = frozenset({"rendered_map_index"})
"""Fields of a task instance whose names match, but which are not part of its identity."""
_NO_REGION = UUID(int=0)
"""Airflow's ``region_id`` outside any region (``RuntimeTaskInstance.model_post_init``)."""
_UNSET = (None, NOT_MAPPED, "", _NO_REGION)


@dataclass(frozen=True)
class TaskIdentity:
    """The identity of a task instance, the same for all of its tries.

    :param map_index: the index of a mapped task, or -1.
    :param region: UUID and index of the region; ``None`` outside any region, and before Airflow 3.4. Airflow creates a
        region for each loop and for each expansion of a mapped task, and new ones in each iteration of an enclosing
        loop. The index is the iteration or the map index (``airflow.models.dynamic_region``).
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    region: tuple[str, int] | None = None

    @classmethod
    def of(cls, ti: Any) -> TaskIdentity:
        """Return the identity of the task instance of a worker or a trigger."""
        region_id, region_index = getattr(ti, "region_id", None), getattr(ti, "region_index", None)
        return cls(
            ti.dag_id,
            ti.run_id,
            ti.task_id,
            # Airflow's model of a task instance allows None (``airflow/sdk/api/datamodels/_generated.py``).
            NOT_MAPPED if ti.map_index is None else ti.map_index,
            None if region_id in _UNSET or region_index in _UNSET else (str(region_id), region_index),
        )

    @property
    def xcom(self) -> dict[str, Any]:
        """The owner of an XCom, as arguments of ``XCom.aget_one``; Airflow tells iterations apart by the caller."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
        }

    def pull(self, ti: Any, key: str) -> Any:
        """Return an XCom of the task instance ``ti`` itself."""
        # Without map_indexes, Airflow reads those of all map indexes, and may return a list
        # (``RuntimeTaskInstance.xcom_pull``).
        return ti.xcom_pull(key=key, task_ids=self.task_id, map_indexes=self.map_index)


def job_key(context: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the key from which the id of the task's job is derived, starting with the DAG, run and task id.

    :param context: the context of the running task.
    :raises RayAgentUnsupportedError: if this Airflow identifies task instances by a field that this version does not
        know, so that two instances could get the same job.
    """
    ti = context["ti"]
    identity = TaskIdentity.of(ti)
    key: tuple[str, ...] = (identity.dag_id, identity.run_id, identity.task_id, str(identity.map_index))
    unknown = [name for name in unknown_dimensions(type(ti)) if getattr(ti, name, None) not in _UNSET]
    if context.get("loop") is None:
        # The region of a mapped task is new in each run, so the key has the map index alone, as before Airflow 3.4.
        if identity.region is not None and identity.region[1] != identity.map_index:
            unknown.append("region_index")
    elif identity.region is None:
        unknown.append("loop")
    else:
        key = (*key, identity.region[0], str(identity.region[1]))
    if unknown:
        raise RayAgentUnsupportedError(
            f"Cannot derive a unique Ray job id for task {identity.task_id!r}: this Airflow also identifies instances "
            f"by {', '.join(unknown)}, which this version of airflow-provider-rayagent does not know. No job was "
            "started. Upgrade the provider, or set a job_id that is unique per task instance.",
            code=Code.TASK_IDENTITY,
        )
    return key


def deployment_namespace() -> str:
    """Return the URL of this Airflow deployment as its namespace, empty if the URL is not unique (localhost)."""
    from airflow.sdk.configuration import conf

    url: str = conf.get("api", "base_url", fallback="") or ""
    host = urlsplit(url).hostname or "localhost"
    return "" if is_loopback(host) else url.rstrip("/")


def unknown_dimensions(kind: type) -> list[str]:
    """Return the names of identifying fields of this Airflow that this version does not know.

    :param kind: the class of Airflow's task instances.
    """
    try:
        # The scope of Airflow's task state is the same for all tries and unique otherwise: just the fields we need.
        from airflow.sdk.state import TaskScope
    except ImportError:
        names = set()  # before Airflow 3.3
    else:
        names = {field.name for field in dataclasses.fields(TaskScope)}
    # Also what only the task instance has: the names of such fields end so.
    names |= {name for name in getattr(kind, "model_fields", ()) if name.endswith("_index")}
    return sorted(names - _KNOWN - _NO_IDENTITY)
