"""Which watchers have started a run, so that none starts it again for the jobs of that run. Pure.

The events of a watcher name it, and each job that a task starts names the watchers of its run in its metadata. So the
event of that job does, too, and so on along the runs that events start.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WATCHERS = "airflow_watchers"
"""Name in the metadata of a job, and in the extra of an asset's event: ids of watchers, separated by commas."""
EVENT_ID_PREFIX = "rayagent-job-end"
MAX_WATCHERS = 50
"""Ids that a job names; a run can have any number of events."""
_ID = re.compile("[0-9a-f]{12}")


def mark_in(event_id: object) -> tuple[str, str] | None:
    """Return the id of the watcher and the digest of the end in the id of an event; ``None`` for other events."""
    if not isinstance(event_id, str) or not event_id.startswith(EVENT_ID_PREFIX):
        return None
    watch_id, _, digest = event_id.removeprefix(f"{EVENT_ID_PREFIX}-").partition("-")
    return (watch_id, digest) if watch_id and digest else None


def watchers_of(dag_run: Any) -> dict[str, str]:
    """Return what names the watchers that have started a run, directly or by other runs; empty if none has.

    :param dag_run: of the context of a task.
    """
    found: dict[str, None] = {}
    for event in getattr(dag_run, "consumed_asset_events", None) or ():
        extra = getattr(event, "extra", None)
        found |= dict.fromkeys(_named_by(extra) if isinstance(extra, dict) else ())
    return {WATCHERS: ",".join(list(found)[:MAX_WATCHERS])} if found else {}


def is_started_by(job: Mapping[str, Any], watch_id: str) -> bool:
    """Return whether a job belongs to a run that a watcher has started."""
    metadata = job.get("metadata")
    return isinstance(metadata, dict) and watch_id in _ids_in(metadata.get(WATCHERS))


def _named_by(extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the watchers that the extra of an event names."""
    yield from _ids_in(extra.get(WATCHERS))
    payload = extra.get("payload")
    if isinstance(payload, dict) and (mark := mark_in(payload.get("event_id"))) is not None:
        yield from _ids_in(mark[0])
        metadata = payload.get("metadata")
        yield from _ids_in(metadata.get(WATCHERS) if isinstance(metadata, dict) else None)


def _ids_in(value: object) -> list[str]:
    return [each for each in value.split(",") if _ID.fullmatch(each)] if isinstance(value, str) else []
