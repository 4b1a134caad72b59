"""Two assets of one service's jobs: those that succeed, and those of one name that fail."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher


def watched(asset: str, **arguments: Any) -> Asset:
    trigger = RayAgentJobWatcher(rayagent_conn_id="watched", poll_interval=0.5, **arguments)
    return Asset(asset, watchers=[AssetWatcher(name="ray", trigger=trigger)])


with DAG("watched_jobs", schedule=[watched("succeeded", statuses=["SUCCEEDED"]) | watched("failed", name="bad-*")]):

    @task
    def collect(*, triggering_asset_events: Any = None) -> list[str]:
        """Return the ids of the jobs that the run has an event of."""
        found = [event for events in triggering_asset_events.values() for event in events]
        return [event.extra["payload"]["job_id"] for event in found]

    collect()
