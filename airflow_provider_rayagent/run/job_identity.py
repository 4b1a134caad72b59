"""Which job a task has: its id, the cluster, and Ray's session there.

An id alone is no job: another cluster, or the same one after a restart of its head, accepts it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_rayagent.errors.service_errors import RayAgentHTTPError, RayAgentResponseError

if TYPE_CHECKING:
    from airflow_provider_rayagent.run.client import JobClient


class Place(NamedTuple):
    """Where a job is.

    :param cluster: the value for the placeholder of the connection; ``None``: it has none.
    :param session: name of Ray's session, ``None`` if it is unknown.
    """

    cluster: str | None = None
    session: str | None = None

    @classmethod
    def of(cls, client: JobClient) -> Place:
        """Return the place of a client's jobs; with one cluster only, nobody is asked for its session.

        :raises RayAgentError: if the cluster does not answer.
        """
        cluster = client.config.cluster
        if cluster is None:
            return cls()
        try:
            ray = client.health_check().get("ray")
        except (RayAgentHTTPError, RayAgentResponseError):
            ray = None
        session = ray.get("session_name") if isinstance(ray, dict) else None
        return cls(cluster, session)

    def has_ids_of(self, other: Place) -> bool:
        """Whether an id means the same job at both places. One cluster may be named in two ways."""
        if self.session and other.session:
            return self.session == other.session
        return self.cluster == other.cluster


class JobIdentity(NamedTuple):
    """A job as a task stores it.

    :param status: that of a job whose end the task has seen.
    """

    job_id: str
    place: Place
    status: str | None = None

    @classmethod
    def from_json(cls, value: object) -> JobIdentity | None:
        """Return what :meth:`to_json` has stored, ``None`` for anything else, which a task may have stored."""
        found: dict[str, Any] = value if isinstance(value, dict) else {}
        job_id, *parts = (found.get(name) for name in ("job_id", "cluster", "session", "status"))
        if not isinstance(job_id, str) or not all(part is None or isinstance(part, str) for part in parts):
            return None
        cluster, session, status = parts
        return cls(job_id, Place(cluster, session), status)

    def to_json(self) -> dict[str, str | None]:
        """Return an object for the task state store."""
        return {"job_id": self.job_id, **self.place._asdict(), "status": self.status}

    def is_at(self, place: Place, job_id: str) -> bool:
        """Whether it is the job with an id at a place."""
        return self.job_id == job_id and self.place.has_ids_of(place)
