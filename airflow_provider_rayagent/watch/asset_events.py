"""Note which ends of jobs were events, as a listener of Airflow.

Every component of Airflow loads this module; only in the triggerer's supervisor are there events of our watchers.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.listeners.types import AssetEvent

ABANDONED_SECONDS = 30
"""How long a transaction that records an event may do nothing, with PostgreSQL."""


class RayAgentWatcherPlugin(AirflowPlugin):
    """Registers this module as a listener."""

    name = "rayagent_watcher"
    # Airflow 3.2 has no place for the positions that the listener moves.
    listeners = [] if airflow_version.startswith("3.2.") else [sys.modules[__name__]]


# Within the transaction that stores the event (``register_asset_change`` in ``airflow/assets/manager.py``), so that
# both are there after a crash, or neither. An exception is logged by Airflow, and ends nothing.
@hookimpl
def on_asset_event_emitted(asset_event: AssetEvent) -> None:
    """Record an event of a watcher in its position."""
    # Of a trigger: ``Trigger.submit_event`` in ``airflow/models/trigger.py``.
    extra = asset_event.extra or {}
    if extra.get("from_trigger") is not True:
        return
    from airflow_provider_rayagent.watch.ended_jobs import mark_of

    mark = mark_of(extra.get("payload"))
    if mark is not None:
        record_event(asset_event.asset, *mark)


def record_event(asset: Any, watch_id: str, digest: str, ended: int) -> None:
    """Record an event in the position of its watcher, in the database transaction that stores the event.

    Only to be called by a listener, in the process that stores the event. Without a stored position, or in another
    process, it does nothing.

    :param asset: the asset of the event, with ``name`` and ``uri``.
    :param ended: when the job ended, in ms since the epoch.
    """
    from airflow import settings
    from airflow.models.asset import AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel
    from sqlalchemy import select, text

    from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, position_key

    # The session of this thread: ``Trigger.submit_event`` has it from the same registry (``create_session`` in
    # ``airflow/utils/session.py``), and commits the event with it.
    session: Any = settings.Session()  # type: ignore[misc]
    if not session.in_transaction():
        return
    row_of = select(AssetStateStoreModel).join(AssetModel, AssetModel.id == AssetStateStoreModel.asset_id)
    query = row_of.where(
        AssetModel.name == asset.name,
        AssetModel.uri == asset.uri,
        AssetStateStoreModel.key == position_key(watch_id),
    )
    # In a savepoint, so that a failure leaves the event itself as it is. Locked, since a triggerer that was taken for
    # dead may store events as well.
    with session.begin_nested():
        if session.get_bind().dialect.name == "postgresql":
            # If only this process is killed, the log server that it has forked (``_serve_logs`` in
            # ``airflow/cli/commands/triggerer_command.py``) keeps the connection open. The database would then hold
            # the lock for ever, and each triggerer that stores an event would wait for it.
            session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{ABANDONED_SECONDS}s'"))
        row = session.scalar(query.with_for_update(of=AssetStateStoreModel).execution_options(populate_existing=True))
        position = WatchPosition.from_json(_parsed(row.value)) if row is not None else None
        if position is not None:
            row.value = json.dumps(position.after(digest, ended, time.time()).to_json())
            row.updated_at = datetime.now(timezone.utc)


def _parsed(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
