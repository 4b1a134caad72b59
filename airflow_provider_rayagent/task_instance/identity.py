"""What tells a task instance apart from all others, for whatever belongs to one: a job, an XCom, a state."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from airflow_provider_rayagent.exceptions import RayAgentTaskIdentityError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_MAPPED = -1
_KNOWN = frozenset({"dag_id", "run_id", "task_id", "map_index", "region_id", "region_index"})
_NO_IDENTITY = frozenset({"rendered_map_index"})
"""Fields of a task instance that look like a part of its identity and are none."""
_NO_REGION = UUID(int=0)
"""What Airflow itself puts in ``region_id`` outside of any region (``RuntimeTaskInstance.model_post_init``)."""
_UNSET = (None, NOT_MAPPED, "", _NO_REGION)


@dataclass(frozen=True)
class TaskIdentity:
    """The coordinates of a task instance, the same for all of its tries.

    :param map_index: the index of a mapped task, or -1.
    :param region: a UUID, and an index in it; ``None`` outside of any region, and before Airflow 3.4. Airflow gives a
        region of its own to each loop and to each expansion of a mapped task, and another one in each iteration of a
        loop around it. The index is the iteration or the map index. (``airflow.models.dynamic_region``)
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    region: tuple[str, int] | None = None

    @classmethod
    def of(cls, ti: Any) -> TaskIdentity:
        """Return the identity of a task instance, of a worker or a trigger."""
        region_id, region_index = getattr(ti, "region_id", None), getattr(ti, "region_index", None)
        return cls(
            ti.dag_id,
            ti.run_id,
            ti.task_id,
            NOT_MAPPED if ti.map_index is None else ti.map_index,
            None if region_id in _UNSET or region_index in _UNSET else (str(region_id), region_index),
        )

    @property
    def xcom(self) -> dict[str, Any]:
        """Who has an XCom, as ``XCom.aget_one`` takes it; Airflow tells iterations apart by who asks."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
        }

    def pull(self, ti: Any, key: str) -> Any:
        """Return an XCom of this very task instance ``ti``."""
        return ti.xcom_pull(key=key, task_ids=self.task_id, map_indexes=self.map_index)


def job_key(context: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the id of the task's job is derived from: the DAG's, the run's and the task's id come first.

    :param context: the context of the running task.
    :raises RayAgentTaskIdentityError: if this Airflow tells the task's instances apart by something that is not known
        here, so that two of them could get the same job.
    """
    ti = context["ti"]
    identity = TaskIdentity.of(ti)
    key: tuple[str, ...] = (identity.dag_id, identity.run_id, identity.task_id, str(identity.map_index))
    unknown = [name for name in unknown_dimensions(type(ti)) if getattr(ti, name, None) not in _UNSET]
    if context.get("loop") is None:
        # A mapped task's region is new in each run; its map index alone has been in the id before there were regions.
        if identity.region is not None and identity.region[1] != identity.map_index:
            unknown.append("region_index")
    elif identity.region is None:
        unknown.append("loop")
    else:
        key = (*key, identity.region[0], str(identity.region[1]))
    if unknown:
        raise RayAgentTaskIdentityError(
            f"This Airflow tells the instances of task {identity.task_id!r} apart by {', '.join(unknown)}, which this "
            "version of airflow-provider-rayagent does not know: two of them could get the same Ray job, so none is "
            "started. Install a newer version, or give the operator a job_id that differs from instance to instance."
        )
    return key


def deployment_namespace() -> str:
    """Return what tells this Airflow deployment apart from others: its address, empty if it has none of its own."""
    from airflow.sdk.configuration import conf

    url: str = conf.get("api", "base_url", fallback="") or ""
    host = urlsplit(url).hostname or "localhost"
    return "" if host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.") else url.rstrip("/")  # noqa: S104


def unknown_dimensions(kind: type) -> list[str]:
    """Return the names of what Airflow can tell task instances apart by, and that is not known here.

    :param kind: the class of Airflow's task instances.
    """
    try:
        # The key of a task's own state, which is the same for all tries and differs for all else: Airflow's own answer.
        from airflow.sdk.state import TaskScope
    except ImportError:
        names = set()  # before Airflow 3.3
    else:
        names = {field.name for field in dataclasses.fields(TaskScope)}
    names |= {name for name in getattr(kind, "model_fields", ()) if name.endswith("_index")}
    return sorted(names - _KNOWN - _NO_IDENTITY)
