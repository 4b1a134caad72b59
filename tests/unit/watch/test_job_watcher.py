"""The trigger that fires an event for each job that ends, over a real socket."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset, AssetWatcher
from airflow.serialization.encoders import encode_asset_like
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.triggers import job_watcher
from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher
from airflow_provider_rayagent.watch import kept_position
from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, ends_of
from tests.scripted import DEFAULT, Answer, Job, Refuse
from tests.stack.processes import NO_AGENT
from tests.unit.support import TOKEN
from tests.unit.watch.watching import LIST, Store, add, ended, ids, watch

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect, Serve, TaskLog

pytestmark = pytest.mark.usefixtures("fast_watcher")


@pytest.mark.parametrize("with_store", [True, False])
def test_what_ended_before_is_no_event_and_what_ends_then_is_one(serve: Serve, with_store: bool, log: TaskLog) -> None:
    agent = serve(Job(job_id="earlier", ended=int(time.time() * 1000) - 1_000), Job(job_id="running", status="RUNNING"))
    store = Store() if with_store else None

    def act() -> None:
        agent.jobs["running"].set_status("FAILED", "it broke")
        add(agent, ended("new"))

    payloads = asyncio.run(watch(agent, 2, store, act))
    assert sorted(ids(payloads)) == ["new", "running"]
    assert {payload["message"] for payload in payloads} >= {"it broke"}
    assert TOKEN not in json.dumps(payloads)
    begun = [each for each in log.messages if "Watching the ends of jobs" in each]
    assert len(begun) == 1
    assert ("lost" in begun[0]) is not with_store


def test_the_filter_is_applied(serve: Serve) -> None:
    agent = serve()
    vision: Any = {"metadata": {"team": "vision"}}

    def act() -> None:
        succeeded, failed = ended("train-1", **vision), ended("train-2", "FAILED", **vision)
        add(agent, succeeded, failed, ended("train-3"), ended("other", **vision))

    watched: Any = {"name": "train-*", "metadata": {"team": "vision"}, "statuses": ["SUCCEEDED"]}
    payloads = asyncio.run(watch(agent, 1, None, act, **watched))
    assert ids(payloads) == ["train-1"]


def test_the_next_triggerer_goes_on_where_airflow_is(serve: Serve) -> None:
    agent, store = serve(), Store()
    first = asyncio.run(watch(agent, 1, store, lambda: add(agent, ended("first"))))
    add(agent, ended("meanwhile"), ended("too"))
    second = asyncio.run(watch(agent, 2, store, lambda: add(agent, ended("second"))))
    third = asyncio.run(watch(agent, 0, store))
    assert ids(first) == ["first"]
    assert sorted(ids(second)) == ["meanwhile", "second", "too"]
    assert third == []
    # When the watcher was created, and what had ended by its first list; all else comes with the events.
    assert store.writes == 2


def test_events_that_airflow_has_not_stored_come_again(serve: Serve) -> None:
    agent, store = serve(), Store()
    record, lost = store.record, []
    store.record = lambda payload: record(payload) if payload["job_id"] == "stored" else lost.append(payload)  # type: ignore[method-assign]
    # No more polls, since it waits until Airflow has stored the events.
    asyncio.run(watch(agent, 2, store, lambda: add(agent, ended("stored"), ended("lost")), polls=0))
    assert ids(lost) == ["lost"]
    store.record = record  # type: ignore[method-assign]
    assert ids(asyncio.run(watch(agent, 1, store))) == ["lost"]


def test_events_of_another_triggerer_are_not_fired_again(serve: Serve) -> None:
    agent, store = serve(), Store()

    def act() -> None:
        # What the one has fired that took over.
        job = ended("taken-over")
        (end,) = ends_of([job.as_details()], {}).values()
        ((key, value),) = store.values.items()
        position = WatchPosition.from_json(value)
        assert position is not None
        store.values[key] = position.after(end.digest, end.time, time.time()).to_json()
        add(agent, job, ended("next"))

    assert ids(asyncio.run(watch(agent, 1, store, act))) == ["next"]


def test_many_events_wait_until_airflow_has_stored_them(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_watcher, "BATCH", 10)
    agent, store = serve(), Store()
    payloads = asyncio.run(watch(agent, 95, store, lambda: add(agent, *(ended(f"j{number}") for number in range(95)))))
    assert sorted(ids(payloads)) == sorted(agent.jobs)


def test_without_the_listener_the_position_is_saved_late(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, log: TaskLog
) -> None:
    monkeypatch.setattr(kept_position, "CONFIRM_SECONDS", 0.05)
    agent, store = serve(), Store(records=False)
    assert ids(asyncio.run(watch(agent, 1, store, lambda: add(agent, ended("first"))))) == ["first"]
    assert any("RA-307" in each and "may come twice" in each for each in log.warnings)
    assert asyncio.run(watch(agent, 0, store)) == []


def test_events_that_are_not_recorded_are_reported_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, log: TaskLog
) -> None:
    class Growing(Store):
        """The next job ends after each event, so that each event is in a poll of its own."""

        def record(self, payload: Any) -> None:
            if payload["job_id"] != "job 3":
                add(agent, ended(f"job {int(payload['job_id'][-1]) + 1}"))

    monkeypatch.setattr(kept_position, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(kept_position, "UNRECORDED_CONFIRM_SECONDS", 0.04)
    agent = serve()
    found = asyncio.run(watch(agent, 3, Growing(records=False), lambda: add(agent, ended("job 1"))))
    assert ids(found) == ["job 1", "job 2", "job 3"]
    assert len([each for each in log.warnings if "may come twice" in each]) == 1


def test_no_event_is_fired_while_the_position_is_unknown(serve: Serve, log: TaskLog) -> None:
    agent, store = serve(), Store()
    asyncio.run(watch(agent, 1, store, lambda: add(agent, ended("first"))))
    store.is_broken = True
    assert asyncio.run(watch(agent, 0, store, lambda: add(agent, ended("second")))) == []
    assert len([each for each in log.warnings if "RA-307" in each]) == 1
    store.is_broken = False
    assert ids(asyncio.run(watch(agent, 1, store))) == ["second"]


def test_once_the_position_is_known_all_since_then_are_events(serve: Serve) -> None:
    agent, store = serve(), Store()
    asyncio.run(watch(agent, 1, store, lambda: add(agent, ended("first"))))
    add(agent, ended("second"))
    time.sleep(0.01)
    store.is_broken = True
    assert ids(asyncio.run(watch(agent, 1, store, lambda: setattr(store, "is_broken", False)))) == ["second"]


@pytest.mark.parametrize(
    ("answers", "code", "level"),
    [
        ([Refuse(500), Refuse(500)], "RA-206", "warning"),
        ([Answer(200, "no list"), Answer(200, {"jobs": 3})], "RA-205", "warning"),
        ([Refuse(401)], "RA-204", "error"),
    ],
)
def test_an_outage_is_reported_once_and_survived(
    serve: Serve, answers: list[Step], code: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent = serve(answers={LIST: [DEFAULT, *answers, DEFAULT]})
    with caplog.at_level("INFO"):
        assert ids(asyncio.run(watch(agent, 1, Store(), lambda: add(agent, ended("new"))))) == ["new"]
    told = [(each.levelname.lower(), each.getMessage()) for each in caplog.records if each.name.endswith("job_lists")]
    assert [each[0] for each in told] == [level, "info"]
    assert told[0][1].startswith(f"{code}: The jobs of the connection 'rayagent_default' cannot be listed")
    assert told[1][1].endswith("can be listed again.")
    assert TOKEN not in str(told)


@pytest.mark.parametrize("answer", [Answer(200, []), Refuse(404)])
def test_a_head_that_restarts_is_no_event(serve: Serve, answer: Step) -> None:
    agent = serve(answers={LIST: [DEFAULT, DEFAULT, DEFAULT, DEFAULT, answer, answer, DEFAULT]})
    payloads = asyncio.run(watch(agent, 1, Store(), lambda: add(agent, ended("once"))))
    assert ids(payloads) == ["once"]


def test_a_changed_connection_becomes_effective(serve: Serve, connect: Connect) -> None:
    agent = serve()
    connect(NO_AGENT)

    async def go() -> list[Any]:
        asyncio.get_running_loop().call_later(0.2, connect, agent)
        return await watch(agent, 1, Store(), lambda: add(agent, ended("new")))

    assert ids(asyncio.run(go())) == ["new"]


def test_a_missing_connection_does_not_end_the_trigger(serve: Serve) -> None:
    agent = serve()

    async def go() -> None:
        trigger = RayAgentJobWatcher(rayagent_conn_id="missing")
        async with aclosing(trigger.run()) as events:
            with pytest.raises(asyncio.TimeoutError):  # another class before Python 3.11
                await asyncio.wait_for(anext(events), 0.5)

    asyncio.run(go())
    assert agent.of(LIST) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"rayagent_conn_id": ""},
        {"poll_interval": 0},
        {"poll_interval": "15"},
        {"statuses": ["DONE"]},
        {"metadata": "team"},
        {"name": ""},
        {"asset_name": ""},
        {"asset_name": 3},
        {"queue": ""},
        {"queue": 3},
    ],
)
def test_invalid_arguments_are_refused_in_the_dag_file(arguments: dict[str, Any]) -> None:
    with pytest.raises(RayAgentInputError):
        RayAgentJobWatcher(**arguments)


def test_a_queue_is_that_of_the_stored_trigger_where_airflow_has_queues_for_watchers() -> None:
    if not hasattr(BaseEventTrigger, "queue"):
        with pytest.raises(RayAgentInputError, match=r"needs Airflow 3\.4"):
            RayAgentJobWatcher(queue="ray")
        return
    watcher = RayAgentJobWatcher(queue="ray")
    assert watcher.queue == "ray"
    assert RayAgentJobWatcher().queue is None
    assert watcher.serialize() == RayAgentJobWatcher().serialize()


def test_invalid_stored_arguments_do_not_end_the_triggerer() -> None:
    """It expects a TypeError only."""
    with pytest.raises(TypeError, match="statuses"):
        RayAgentJobWatcher(statuses=[])


def test_airflow_identifies_equal_watchers() -> None:
    def hashed(**arguments: Any) -> int:
        return BaseEventTrigger.hash(*RayAgentJobWatcher(**arguments).serialize())

    watched: dict[str, Any] = {"name": "a*", "metadata": {"team": "vision"}, "poll_interval": timedelta(seconds=30)}
    path, arguments = RayAgentJobWatcher(**watched, statuses=("FAILED",)).serialize()
    assert path == "airflow_provider_rayagent.triggers.job_watcher.RayAgentJobWatcher"
    assert json.loads(json.dumps(arguments)) == arguments
    assert not any(isinstance(value, dict) for value in arguments.values())
    other_order = {"b": "2", "a": "1"}, {"a": "1", "b": "2"}
    assert len({hashed(metadata=metadata) for metadata in other_order}) == 1
    assert hashed(**watched, statuses=("FAILED",)) == hashed(**arguments) != hashed(**watched)


def test_the_name_of_its_asset_makes_a_watcher_another_one() -> None:
    def triggers(**names: str | None) -> set[int]:
        assets = [
            Asset(asset, watchers=[AssetWatcher("ray", RayAgentJobWatcher(name="train-*", asset_name=name))])
            for asset, name in names.items()
        ]
        encoded = [encode_asset_like(asset)["watchers"][0]["trigger"] for asset in assets]
        return {BaseEventTrigger.hash(each["classpath"], each["kwargs"]) for each in encoded}

    assert len(triggers(trained=None, audited=None)) == 1
    assert len(triggers(trained="trained", audited="audited")) == 2


def test_a_watcher_of_several_assets_tells_what_to_do(serve: Serve, log: TaskLog) -> None:
    accessors: Any = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(getattr(accessors, "AssetStateStoreAccessors", None), "aget"):
        pytest.skip("This Airflow has no state stores for triggers.")

    class Stores(accessors.AssetStateStoreAccessors):  # type: ignore[misc]
        def record(self, payload: Any) -> None:
            """Do nothing, as Airflow without a stored position."""

    stores: Any = Stores([Asset("trained"), Asset("audited")])
    agent = serve()
    assert ids(asyncio.run(watch(agent, 1, stores, lambda: add(agent, ended("new"))))) == ["new"]
    (warning,) = [each for each in log.warnings if "RA-709" in each]
    assert "without a stored position" in warning
    assert "('audited', 'trained')" in warning
    assert warning.endswith("Give each watcher the name of its asset as asset_name.")


def test_a_name_of_the_asset_that_is_added_keeps_the_position(serve: Serve) -> None:
    agent, store = serve(), Store()
    asyncio.run(watch(agent, 1, store, lambda: add(agent, ended("first"))))
    add(agent, ended("meanwhile"))
    assert ids(asyncio.run(watch(agent, 1, store, asset_name="trained"))) == ["meanwhile"]


def test_watchers_share_requests_by_connection_and_interval() -> None:
    keys = [
        RayAgentJobWatcher(**arguments).shared_stream_key()
        for arguments in (
            {},
            {"name": "a*", "statuses": ["FAILED"]},
            {"poll_interval": 20},
            {"rayagent_conn_id": "other"},
        )
    ]
    assert keys[0] == keys[1]
    assert len({*keys}) == 3
