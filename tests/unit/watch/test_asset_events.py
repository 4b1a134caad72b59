"""The listener moves a watcher's position in the transaction that stores the event."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow import settings
from airflow.models.asset import AssetModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import scoped_session, sessionmaker

from airflow_provider_rayagent.run.started_by_watchers import EVENT_ID_PREFIX
from airflow_provider_rayagent.watch.asset_events import on_asset_event_emitted
from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, position_key

if TYPE_CHECKING:
    from collections.abc import Iterator

AssetStateStoreModel: Any = pytest.importorskip("airflow.models.asset_state_store").AssetStateStoreModel

WATCH, DIGEST, TIME = "0123456789ab", "fedcba9876543210", 1_700_000_000_000
ASSET = SimpleNamespace(name="trained", uri="trained")
PAYLOAD = {"event_id": f"{EVENT_ID_PREFIX}-{WATCH}-{DIGEST}", "end_time": TIME}
BEGAN = WatchPosition(TIME - 1)


def begin(sessions: Any) -> Any:
    """Return a session in a transaction that has stored something, as Airflow the event."""
    session = sessions()
    session.add(AssetModel(name="event", uri="event"))
    session.flush()
    return session


def emit(asset: Any = ASSET, *, from_trigger: Any = True, payload: Any = PAYLOAD) -> None:
    on_asset_event_emitted(SimpleNamespace(asset=asset, extra={"from_trigger": from_trigger, "payload": payload}))  # type: ignore[arg-type]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's sessions, with a database that has an asset and the position of a watcher."""
    engine = create_engine("sqlite://")
    for model in (AssetModel, AssetStateStoreModel):
        model.__table__.create(engine)
    found = scoped_session(sessionmaker(engine))
    monkeypatch.setattr(settings, "Session", found)
    session = found()
    session.add_all([AssetModel(id=1, name="trained", uri="trained"), AssetModel(id=2, name="other", uri="other")])
    session.flush()
    for asset_id in (1, 2):
        session.add(AssetStateStoreModel(asset_id=asset_id, key=position_key(WATCH), value=json.dumps(BEGAN.to_json())))
    session.commit()
    yield found
    found.remove()
    engine.dispose()


def stored(sessions: Any, asset_id: int = 1) -> WatchPosition | None:
    value = sessions().scalar(select(AssetStateStoreModel.value).where(AssetStateStoreModel.asset_id == asset_id))
    return WatchPosition.from_json(json.loads(value))


def test_the_position_is_committed_with_the_event(sessions: Any) -> None:
    session = begin(sessions)
    emit()
    session.commit()
    assert stored(sessions) == WatchPosition(BEGAN.since, {DIGEST: TIME})
    assert stored(sessions, 2) == BEGAN


def test_it_is_lost_with_the_event(sessions: Any) -> None:
    session = begin(sessions)
    emit()
    session.rollback()
    assert stored(sessions) == BEGAN


@pytest.mark.parametrize(
    "event",
    [
        {"from_trigger": False},
        {"from_trigger": None},
        {"payload": {"event_id": "other", "end_time": TIME}},
        {"payload": "text"},
        {"asset": SimpleNamespace(name="unknown", uri="unknown")},
    ],
)
def test_other_events_move_nothing(sessions: Any, event: dict[str, Any]) -> None:
    begin(sessions)
    emit(**event)
    sessions().commit()
    assert stored(sessions) == BEGAN


def test_outside_of_a_transaction_nothing_is_written(sessions: Any) -> None:
    emit()
    assert not sessions().in_transaction()


def test_what_is_no_position_is_left_alone(sessions: Any) -> None:
    session = sessions()
    row = session.get(AssetStateStoreModel, (1, position_key(WATCH)))
    row.value = "[1"
    emit()
    session.commit()
    assert session.get(AssetStateStoreModel, (1, position_key(WATCH))).value == "[1"
