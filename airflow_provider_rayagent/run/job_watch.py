"""Watch a followed job: tell why it waits, and what runs while it writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.run.silence_watch import SilenceWatch, StallSettings
from airflow_provider_rayagent.run.wait_watch import WaitWatch

if TYPE_CHECKING:
    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.render.record_builder import Record
    from airflow_provider_rayagent.transport.tail_driver import Follower


class JobWatch:
    """Watches one job. Never blocks.

    :param config: of the service that has the job.
    :param reads_log: whether the job's log is read; otherwise nobody knows whether it writes.
    """

    def __init__(
        self, config: ServiceConfig, job_id: str, settings: StallSettings | None = None, *, reads_log: bool = True
    ) -> None:
        self._wait = WaitWatch(config, job_id)
        self._silence = SilenceWatch(config, job_id, settings or StallSettings()) if reads_log else None

    def records(self, follower: Follower) -> list[Record]:
        """Return what there is to tell; call it now and then. It ends the following of a job that has stalled."""
        told = self._wait.records(follower)
        return told if self._silence is None else told + self._silence.records(follower, self._wait.reason)

    def close(self) -> None:
        """Wait for no look any more."""
        self._wait.close()
        if self._silence is not None:
            self._silence.close()
