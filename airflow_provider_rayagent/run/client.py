"""What a run asks a service by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.cursor import Cursor
    from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
    from airflow_provider_rayagent.transport.reentrant_event import ReentrantEvent


class JobClient(Protocol):
    """A blocking client of a service; ``RayAgentHook`` is one, which the layers below cannot import."""

    rayagent_conn_id: str

    @property
    def config(self) -> ServiceConfig:
        """The configuration from the connection."""

    def health_check(self) -> dict[str, Any]:
        """Return the health of the service."""

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Return a job's details."""

    def follow_job(
        self,
        job_id: str,
        settings: TailSettings,
        *,
        cursor: Cursor | None = None,
        deadline: float | None = None,
        stopped: ReentrantEvent | None = None,
    ) -> BlockingFollower:
        """Return a follower of a job."""
