"""A watcher does not start its own runs again: what a job says of the watchers of its run."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset

from airflow_provider_rayagent.run.job_origin import origin_metadata
from airflow_provider_rayagent.run.started_by_watchers import MAX_WATCHERS, WATCHERS, is_started_by, watchers_of
from airflow_provider_rayagent.text.redaction import NO_SECRETS
from airflow_provider_rayagent.triggers.job_watcher import RayAgentJobWatcher
from airflow_provider_rayagent.watch.ended_jobs import event_of, mark_of, validated_filter, watch_id_of
from tests.scripted import Job
from tests.unit.sensors.factory import run_in_worker
from tests.unit.support import make_context
from tests.unit.watch.test_ended_jobs import one_end
from tests.unit.watch.watching import add, ended, ids, watch

if TYPE_CHECKING:
    from tests.unit.support import Serve

FIRST, SECOND = "0123456789ab", "ba9876543210"


def run_with(*extras: Any) -> Any:
    """Return a run that events with these extras have started."""
    return SimpleNamespace(consumed_asset_events=[SimpleNamespace(extra=extra) for extra in extras])


def event(watch_id: str, metadata: Any = None) -> dict[str, Any]:
    """Return the extra of the event of a watcher."""
    payload = {"event_id": f"rayagent-job-end-{watch_id}-00ff", "end_time": 7, "metadata": metadata}
    return {"from_trigger": True, "payload": payload}


def test_the_event_of_a_watcher_names_it() -> None:
    payload = event_of(one_end(), FIRST, "ray", NO_SECRETS)
    assert mark_of(payload) is not None
    assert watchers_of(run_with({"payload": payload})) == {WATCHERS: FIRST}


@pytest.mark.parametrize(
    ("extras", "named"),
    [
        ([event(FIRST)], FIRST),
        ([event(FIRST), event(SECOND), event(FIRST)], f"{FIRST},{SECOND}"),
        # The job whose end is the event belongs to a run that another watcher has started.
        ([event(FIRST, {WATCHERS: SECOND})], f"{FIRST},{SECOND}"),
        # The event of an asset that a task of such a run has made.
        ([{WATCHERS: f"{FIRST},{SECOND}"}], f"{FIRST},{SECOND}"),
        ([event(f"{number:012x}") for number in range(MAX_WATCHERS + 9)], ",".join(f"{n:012x}" for n in range(50))),
    ],
)
def test_a_run_names_all_watchers_that_have_led_to_it(extras: list[Any], named: str) -> None:
    assert watchers_of(run_with(*extras)) == {WATCHERS: named}


@pytest.mark.parametrize(
    "extra",
    [
        None,
        {},
        [],
        {"payload": None},
        {"payload": {"event_id": 7}},
        {"payload": {"event_id": "rayagent-job-end-"}},
        {"payload": {"event_id": f"another-{FIRST}-00ff"}},
        event("x, y=z"),
        {WATCHERS: [FIRST]},
        {WATCHERS: "\ud800,<b>,"},
    ],
)
def test_other_events_name_no_watcher(extra: Any) -> None:
    assert watchers_of(run_with(extra)) == {}


@pytest.mark.parametrize("dag_run", [None, SimpleNamespace(), SimpleNamespace(consumed_asset_events=None)])
def test_a_run_without_events_names_no_watcher(dag_run: Any) -> None:
    assert watchers_of(dag_run) == {}


def test_a_job_names_the_watchers_of_its_run() -> None:
    context = make_context()
    assert WATCHERS not in origin_metadata(context)
    context["dag_run"].consumed_asset_events = run_with(event(FIRST)).consumed_asset_events
    job = {"metadata": origin_metadata(context)}
    assert is_started_by(job, FIRST)
    assert not is_started_by(job, SECOND)


@pytest.mark.parametrize("metadata", [None, [], {WATCHERS: None}, {WATCHERS: 7}, {WATCHERS: ""}])
def test_other_jobs_are_started_by_no_watcher(metadata: Any) -> None:
    assert not is_started_by({"metadata": metadata}, FIRST)


def test_the_event_of_an_outlet_names_the_watchers(serve: Serve) -> None:
    serve(Job("x\n"))
    asset = Asset("model")
    extra: dict[str, Any] = {}
    context = make_context(outlet_events={asset: SimpleNamespace(extra=extra)})
    context["dag_run"].consumed_asset_events = run_with(event(FIRST)).consumed_asset_events
    run_in_worker(context=context, outlets=[asset])
    assert extra[WATCHERS] == FIRST


@pytest.mark.usefixtures("fast_watcher")
@pytest.mark.parametrize(("options", "fired"), [({}, ["other"]), ({"include_own": True}, ["other", "own"])])
def test_a_watcher_leaves_out_the_jobs_of_the_runs_that_it_has_started(
    options: dict[str, Any], fired: list[str], serve: Serve
) -> None:
    agent = serve()
    own = watch_id_of("rayagent_default", validated_filter(None, None, None))

    def act() -> None:
        mine = ended("own", metadata={WATCHERS: f"{SECOND},{own}"})
        add(agent, mine, ended("other", metadata={WATCHERS: SECOND}))

    payloads = asyncio.run(watch(agent, len(fired), None, act, **options))
    assert sorted(ids(payloads)) == fired


@pytest.mark.usefixtures("fast_watcher")
def test_excluded_metadata_is_left_out(serve: Serve) -> None:
    agent = serve()

    def act() -> None:
        add(agent, ended("a", metadata={"team": "x", "kind": "test"}), ended("b", metadata={"team": "x"}), ended("c"))

    payloads = asyncio.run(watch(agent, 2, None, act, exclude_metadata={"kind": "test", "other": "1"}))
    assert sorted(ids(payloads)) == ["b", "c"]


def test_what_is_excluded_makes_a_watcher_another_one() -> None:
    plain, excluding = (validated_filter("a*", None, None, excluded) for excluded in (None, {"kind": "test"}))
    assert watch_id_of("ray", plain) != watch_id_of("ray", excluding)
    arguments = RayAgentJobWatcher(exclude_metadata={"kind": "test"}, include_own=True).serialize()[1]
    assert arguments["exclude_metadata"] == '{"kind": "test"}'
    assert RayAgentJobWatcher(**arguments).serialize()[1] == arguments


@pytest.mark.parametrize(
    "arguments", [{"exclude_metadata": {"a": 1}}, {"exclude_metadata": "{"}, {"include_own": "no"}]
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        RayAgentJobWatcher(**arguments)


def test_many_events_of_a_run_take_no_time() -> None:
    extras = [event(FIRST, {WATCHERS: ",".join(f"{n:012x}" for n in range(50))})] * 1_000
    began = time.process_time()
    watchers_of(run_with(*extras))
    assert time.process_time() - began < 5
