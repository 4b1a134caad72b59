"""Note which ends of jobs were events, as a listener of Airflow.

Every component of Airflow loads this module; only in the triggerer's supervisor are there events of our watchers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.listeners.types import AssetEvent


# Within the transaction that stores the event (``register_asset_change`` in ``airflow/assets/manager.py``), so that
# both are there after a crash, or neither. An exception is logged by Airflow, and ends nothing.
@hookimpl
def on_asset_event_emitted(asset_event: AssetEvent) -> None:
    """Record an event of a watcher in its position."""
    # Of a trigger: ``Trigger.submit_event`` in ``airflow/models/trigger.py``.
    extra = asset_event.extra or {}
    if extra.get("from_trigger") is not True:
        return
    from airflow_provider_rayagent.services.ended_jobs import mark_of
    from airflow_provider_rayagent.triggers.watch_positions import record_event

    mark = mark_of(extra.get("payload"))
    if mark is not None:
        record_event(asset_event.asset, *mark)
