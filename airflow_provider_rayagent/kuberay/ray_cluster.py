"""The argument of a task that describes its own Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.services.validation import shown, validate_duration, validate_text

if TYPE_CHECKING:
    from datetime import timedelta

MAX_INT32 = 2**31 - 1
"""KubeRay's fields are integers of 32 bits."""


@dataclass(frozen=True, repr=False)
class RayCluster:
    """A Ray cluster on Kubernetes for one task: the argument ``cluster`` of a task that starts a job.

    .. code-block:: python

        from datetime import timedelta

        from airflow_provider_rayagent.kuberay.ray_cluster import RayCluster

        cluster = RayCluster(spec="clusters/gpu.yaml", namespace="ray", lifetime=timedelta(hours=6))

    :param spec: what the cluster consists of: a RayCluster of KubeRay or its ``spec``, as a dictionary or as the path
        of a YAML file, relative to the folder of the DAG file. Labels and annotations of a RayCluster, such as the name
        of a queue, are kept. The path, the text of the file, and the strings of a dictionary are templated.
    :param lifetime: after this time KubeRay ends the cluster, whatever has happened to Airflow. It counts from the
        creation of the cluster.
    :param namespace: the namespace of Kubernetes; ``None``: that of the connection, or else ``default``. (templated)
    :param kubernetes_conn_id: the Airflow connection of Kubernetes, of the type ``kubernetes``. (templated)
    :param ttl: for how long KubeRay keeps the cluster after the end of its job if the task could not delete it.
    :param keep_failed: for how long the cluster of a task that has failed is kept, to look at it; ``None``: it is
        deleted at once.
    :raises RayAgentInputError: if an argument is invalid.
    """

    spec: str | Mapping[str, Any]
    lifetime: timedelta | float
    namespace: str | None = None
    kubernetes_conn_id: str = "kubernetes_default"
    ttl: timedelta | float = 600.0
    keep_failed: timedelta | float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.spec, Mapping):
            validate_text(self.spec, "spec")
        if self.namespace is not None:
            validate_text(self.namespace, "namespace")
        validate_text(self.kubernetes_conn_id, "kubernetes_conn_id")
        for name in ("lifetime", "ttl", "keep_failed"):
            value = getattr(self, name)
            if value is not None:
                # Whole seconds, as KubeRay counts. A frozen dataclass has no other way.
                object.__setattr__(self, name, validate_seconds(value, name))

    def __repr__(self) -> str:
        # Airflow stores the text of this object with the DAG and as a rendered template, and a specification can have
        # secrets in the ``env`` of its containers.
        spec = "{...}" if isinstance(self.spec, Mapping) else shown(self.spec)
        return f"{type(self).__name__}(spec={spec}, namespace={shown(self.namespace)}, lifetime={self.lifetime}s)"


def validate_seconds(value: object, name: str) -> int:
    """Return a duration in whole seconds, if it is one that a RayJob can have.

    :raises RayAgentInputError: for anything else.
    """
    seconds = validate_duration(value, name, at_most=MAX_INT32)
    if seconds < 1:
        raise RayAgentInputError(f"{name} must be at least a second, not {shown(value)}.")
    return int(seconds)
