"""Which ends are events of a watcher if the clocks differ, over a real socket."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.watch import ended_jobs
from airflow_provider_rayagent.watch.ended_jobs import WatchPosition, position_key, validated_filter, watch_id_of
from tests.scripted import Action, Answer, Job, Refuse
from tests.unit.watch.watching import LIST, Store, add, ids, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent
    from tests.scripted.exchange import Exchange
    from tests.unit.support import Serve

pytestmark = pytest.mark.usefixtures("fast_watcher")

KEY = position_key(watch_id_of("rayagent_default", validated_filter(None, None, None)))
MINUTE = 60.0


@dataclass
class Ray(Action):
    """A service with a clock of its own.

    :param ahead: seconds by which its clock is ahead.
    :param date: seconds by which its ``Date`` is ahead; ``None``: it sends none.
    :param is_down: whether it refuses to list the jobs.
    """

    ahead: float
    date: float | None = None
    is_down: bool = False
    agent: ScriptedAgent | None = None

    async def run(self, x: Exchange) -> None:
        assert self.agent is not None
        jobs = [job.as_details() for job in self.agent.jobs.values()]
        headers = {} if self.date is None else {"Date": formatdate(time.time() + self.date, usegmt=True)}
        answer = Refuse(503, headers=headers) if self.is_down else Answer(200, jobs, headers)
        await answer.run(x)

    def started(self, serve: Serve, *jobs: Job) -> ScriptedAgent:
        self.agent = serve(*jobs, answers={LIST: [self]})
        return self.agent

    def ended(self, job_id: str, seconds_ago: float = 0.0) -> Job:
        return Job(job_id=job_id, started=self._now(-2 * MINUTE - seconds_ago), ended=self._now(-seconds_ago))

    def running(self, job_id: str) -> Job:
        return Job(job_id=job_id, status="RUNNING", started=self._now(-MINUTE))

    def end(self, job_id: str) -> None:
        assert self.agent is not None
        job = self.agent.jobs[job_id]
        job.ended = self._now()
        job.set_status("FAILED")

    def _now(self, seconds: float = 0.0) -> int:
        return int((time.time() + self.ahead + seconds) * 1000)


def watch_ends(agent: ScriptedAgent, count: int, store: Store | None, act: Callable[[], object] = bool) -> list[str]:
    return sorted(ids(asyncio.run(watch(agent, count, store, act))))


@pytest.mark.parametrize("with_store", [True, False])
@pytest.mark.parametrize(
    "ray",
    [
        Ray(0.0),
        Ray(-2 * MINUTE),
        Ray(-9 * MINUTE),
        Ray(2 * MINUTE),
        Ray(9 * MINUTE),
        # Known, so that it can differ by more.
        Ray(-600 * MINUTE, date=-600 * MINUTE),
        Ray(600 * MINUTE, date=600 * MINUTE),
        # Another one than that by which jobs end, such as a proxy's.
        Ray(-9 * MINUTE, date=0.0),
        Ray(2 * MINUTE, date=-2 * MINUTE),
        Ray(-9 * MINUTE, date=600 * MINUTE),
        Ray(2 * MINUTE, date=-1_000_000 * MINUTE),
    ],
    ids=str,
)
def test_what_runs_at_the_beginning_is_an_event_and_what_had_ended_is_none(
    serve: Serve, ray: Ray, with_store: bool
) -> None:
    # Not more exactly, since a ``Date`` has whole seconds.
    old = [
        ray.ended("just", 10.0),
        ray.ended("minute", MINUTE),
        ray.ended("hour", 60 * MINUTE),
        ray.ended("future", -MINUTE),
    ]
    agent = ray.started(serve, ray.running("running"), *old)
    store = Store() if with_store else None

    def act() -> None:
        ray.end("running")
        add(agent, ray.ended("new"))

    assert watch_ends(agent, 2, store, act) == ["new", "running"]
    if store is not None:
        add(agent, ray.ended("later"))
        assert watch_ends(agent, 1, store) == ["later"]


@pytest.mark.parametrize("with_store", [True, False])
@pytest.mark.parametrize(
    ("ray", "is_late"),
    [
        (Ray(0.0), True),
        (Ray(0.0, date=-60 * MINUTE), True),
        (Ray(-60 * MINUTE, date=-60 * MINUTE), True),
        (Ray(60 * MINUTE, date=60 * MINUTE), True),
        (Ray(-60 * MINUTE, date=-60 * MINUTE), False),
        (Ray(60 * MINUTE, date=60 * MINUTE), False),
    ],
    ids=str,
)
def test_what_ends_while_the_first_list_fails_is_an_event(
    serve: Serve, ray: Ray, is_late: bool, with_store: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_late:
        monkeypatch.setattr(ended_jobs, "PROMPT_MS", -1)
    ray.is_down = True
    agent = ray.started(serve, ray.running("running"), ray.ended("minute", MINUTE), ray.ended("hour", 60 * MINUTE))

    def act() -> None:
        ray.end("running")
        ray.is_down = False

    assert watch_ends(agent, 1, Store() if with_store else None, act) == ["running"]


def test_the_next_triggerer_knows_when_the_watcher_was_created(serve: Serve) -> None:
    ray, store = Ray(-60 * MINUTE, date=-60 * MINUTE, is_down=True), Store()
    agent = ray.started(serve, ray.running("running"), ray.ended("minute", MINUTE))
    assert watch_ends(agent, 0, store, lambda: ray.end("running")) == []
    ray.is_down = False
    assert watch_ends(agent, 1, store) == ["running"]
    assert watch_ends(agent, 0, store) == []


def test_what_is_old_is_known_even_if_it_cannot_be_stored_at_first(serve: Serve) -> None:
    ray, store = Ray(2 * MINUTE), Store()
    agent = ray.started(serve, ray.running("running"), ray.ended("old"))
    store.is_broken = True

    def act() -> None:
        ray.end("running")
        store.is_broken = False

    assert watch_ends(agent, 1, store, act) == ["running"]
    assert watch_ends(agent, 0, store) == []


def test_jobs_that_a_restarted_head_lists_again_are_no_events(serve: Serve) -> None:
    ray, store = Ray(-60 * MINUTE, date=-60 * MINUTE), Store()
    agent = ray.started(serve)
    old, new = ray.ended("old", 30 * MINUTE), ray.ended("new")

    def act() -> None:
        add(agent, old, new)

    assert watch_ends(agent, 1, store, act) == ["new"]
    agent.jobs = {}
    assert watch_ends(agent, 0, store, act) == []


def test_a_position_of_an_earlier_version_is_read(serve: Serve) -> None:
    ray, store = Ray(0.0), Store()
    store.values[KEY] = {"since": int(time.time() * 1000) - 5_000, "seen": {}}
    agent = ray.started(serve, ray.ended("since", 2.0), ray.ended("before", MINUTE))
    assert watch_ends(agent, 1, store) == ["since"]


def test_a_triggerer_that_takes_over_before_the_first_list_goes_on_with_that_of_the_other(serve: Serve) -> None:
    """Both have begun, and what ended between their first lists is an event."""
    ray, store = Ray(0.0), Store()
    aset = store.aset

    async def set_after_the_other(key: str, value: Any) -> None:
        if value.get("begun") is not False:
            store.values[key] = WatchPosition(value["since"]).to_json()
            store.aset = aset  # type: ignore[method-assign]
            raise RuntimeError("no luck")
        await aset(key, value)

    store.aset = set_after_the_other  # type: ignore[method-assign]
    agent = ray.started(serve, ray.ended("between"))
    assert watch_ends(agent, 1, store) == ["between"]
