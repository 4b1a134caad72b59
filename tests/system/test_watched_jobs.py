"""Each job that ends is one event, although triggerers are killed while jobs end.

The jobs are those of a scripted dashboard, since a real Ray takes a second for each.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.execution_time import context
from sqlalchemy import create_engine, text

from airflow_provider_rayagent.watch.ended_jobs import WINDOW_MS, position_key
from tests.level import by_level
from tests.scripted import Job, ScriptedAgent
from tests.stack.airflow import Airflow, airflow
from tests.stack.postgres import postgres
from tests.stack.processes import Server
from tests.stack.triggerers import Triggerers, triggerers_of
from tests.stack.watch import wait_until
from tests.system.watch_table import WatchRow, record

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.each_airflow,
    pytest.mark.skipif(
        not hasattr(getattr(context, "AssetStateStoreAccessor", None), "aget"),
        reason="before Airflow 3.3.2 a trigger cannot store its position",
    ),
]

DAGS = Path(__file__).parent / "watcher_dags"
TOKEN = "watched-s3cret-token"
LIST = "GET jobs/"
JOBS, KILLS = by_level((100, 1), (1_000, 2))
ABANDON = """
import os, signal, time
from types import SimpleNamespace
from airflow import settings
from sqlalchemy import text
from airflow_provider_rayagent.watch.asset_events import record_event

session = settings.Session()
session.execute(text("SELECT 1"))
record_event(SimpleNamespace(name="succeeded", uri="succeeded"), {watch_id!r}, "digest", 0)
if not os.fork():
    time.sleep(300)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A triggerer that is killed while it stores an event, and whose child process keeps the connection open."""
BURST = 10
"""Jobs that end at a time."""
PAUSE = by_level(1.0, 0.5)
"""Seconds between two bursts: jobs end while no triggerer runs, too."""
FAILED_EVERY = 10
"""One job of so many fails."""


class Watching:
    """An Airflow that watches the jobs of a dashboard."""

    def __init__(self, airflow: Airflow, triggerers: Triggerers, agent: ScriptedAgent) -> None:
        self.airflow = airflow
        self.triggerers = triggerers
        self.agent = agent
        self._engine = create_engine(airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        self.ended: dict[str, list[str]] = {"succeeded": [], "failed": []}
        self.while_dead = 0

    def rows(self, query: str) -> list[tuple[str, object]]:
        with self._engine.connect() as connection:
            return [(name, value) for name, value in connection.execute(text(query))]

    def events(self, asset: str) -> list[str]:
        """Return the job ids in the events of an asset, as often as there is one."""
        query = "SELECT asset.name, asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_event.asset_id"
        extras = [extra for name, extra in self.rows(query) if name == asset]
        return [
            (json.loads(extra) if isinstance(extra, str) else extra)["payload"]["job_id"]  # type: ignore[index]
            for extra in extras
        ]

    def positions(self) -> dict[str, str]:
        """Return the stored positions by asset."""
        query = "SELECT asset.name, value FROM asset_state_store JOIN asset ON asset.id = asset_state_store.asset_id"
        return {name: str(value) for name, value in self.rows(query)}

    def have_begun(self) -> bool:
        """Whether the watchers have stored which jobs had ended before."""
        positions = [json.loads(position) for position in self.positions().values()]
        return len(positions) == 2 and all(position.get("begun") is not False for position in positions)

    def can_be_locked(self, key: str) -> bool:
        """Whether no other transaction holds the lock of a position."""
        query = text("SELECT key FROM asset_state_store WHERE key = :key FOR UPDATE SKIP LOCKED")
        with self._engine.connect() as connection:
            return connection.execute(query, {"key": key}).first() is not None

    def no_position(self) -> str:
        return f"the watchers have no position; import errors: {self.airflow.import_errors()};"

    def count(self) -> int:
        return sum(len(self.events(asset)) for asset in self.ended)

    def end_jobs(self, count: int) -> None:
        """Have so many more jobs end at one time."""
        first = sum(map(len, self.ended.values()))
        new = []
        now = int(time.time() * 1000)
        for number in range(first, first + count):
            failed = number % FAILED_EVERY == 0
            job_id = f"{'bad' if failed else 'good'}-{number}"
            new.append(Job(status="FAILED" if failed else "SUCCEEDED", job_id=job_id, started=now - 500, ended=now))
            self.ended["failed" if failed else "succeeded"].append(job_id)
        # Replaced as a whole, since the dashboard reads it in its own thread.
        self.agent.jobs = {**self.agent.jobs, **{job.job_id: job for job in new}}

    def lists(self) -> int:
        """Return how often the jobs were listed so far."""
        return len(self.agent.of(LIST))


def feed(watching: Watching) -> None:
    for _ in range(JOBS // BURST):
        watching.end_jobs(BURST)
        time.sleep(PAUSE)


@pytest.fixture(scope="module")
def watching() -> Iterator[Watching]:
    earlier = Job(job_id="good-earlier", ended=int(time.time() * 1000) - 60_000)
    with ScriptedAgent(earlier, service="ray", token=TOKEN) as agent, postgres() as server:
        connection = {"conn_type": "rayagent", "host": agent.url, "password": TOKEN, "extra": {"service": "ray"}}
        database = server.create_database("airflow")
        with (
            airflow(DAGS, database=database, connections={"watched": connection}) as running,
            triggerers_of(running) as triggerers,
        ):
            found = Watching(running, triggerers, agent)
            wait_until(lambda: found.have_begun() or None, found.no_position)
            _end_jobs_and_kill(found)
            yield found


def _end_jobs_and_kill(watching: Watching) -> None:
    feeding = threading.Thread(target=feed, args=(watching,), daemon=True)
    feeding.start()
    holder = watching.triggerers.only()
    for kill in range(1, KILLS + 1):
        limit = JOBS * kill // (KILLS + 1)
        wait_until(lambda limit=limit: watching.count() >= limit or None, f"fewer than {limit} events")  # type: ignore[misc]
        holder.kill()
        before = sum(map(len, watching.ended.values()))
        holder = watching.triggerers.start()
        watching.while_dead += sum(map(len, watching.ended.values())) - before
    feeding.join()
    wait_until(lambda: watching.count() >= JOBS or None, lambda: f"{watching.count()} events of {JOBS} jobs")
    # Further polls find nothing that they take for new.
    lists = watching.lists()
    wait_until(lambda: watching.lists() >= lists + 5 or None, "the jobs are not listed any more")
    for asset, jobs in watching.ended.items():
        events = watching.events(asset)
        missing, repeated = Counter(jobs) - Counter(events), Counter(events) - Counter(jobs)
        record(WatchRow(asset, len(jobs), KILLS, watching.while_dead, len(events), missing.total(), repeated.total()))


@pytest.mark.parametrize("asset", ["succeeded", "failed"])
def test_each_job_is_one_event(watching: Watching, asset: str) -> None:
    assert Counter(watching.events(asset)) == Counter(watching.ended[asset])


def test_no_job_is_an_event_that_ended_before_the_watcher_was_there(watching: Watching) -> None:
    assert "good-earlier" not in watching.events("succeeded")


def test_the_position_moves_with_the_events(watching: Watching) -> None:
    for asset, stored in watching.positions().items():
        position = json.loads(stored)
        earlier = 1 if asset == "succeeded" else 0
        assert len(position["seen"]) == earlier + len(watching.ended[asset])
        assert max(position["seen"].values()) - WINDOW_MS <= position["since"]


def test_a_run_gets_the_payloads(watching: Watching) -> None:
    runs = watching.airflow.call("GET", "dags/watched_jobs/dagRuns?limit=100")["dag_runs"]
    assert {run["run_type"] for run in runs} == {"asset_triggered"}
    run_id = runs[0]["dag_run_id"]
    watching.airflow.wait_for_run("watched_jobs", run_id)
    assert set(watching.airflow.xcom("watched_jobs", run_id, "collect")) <= {
        *watching.ended["succeeded"],
        *watching.ended["failed"],
    }


def test_no_secret_is_stored(watching: Watching) -> None:
    query = "SELECT 'event', extra FROM asset_event UNION ALL SELECT 'position', value FROM asset_state_store"
    assert TOKEN not in str(watching.rows(query.replace("extra", "CAST(extra AS TEXT)")))


def test_a_triggerer_that_is_killed_while_it_stores_an_event_does_not_stop_the_others(
    watching: Watching, tmp_path: Path
) -> None:
    query = "SELECT key, asset.name FROM asset_state_store JOIN asset ON asset.id = asset_state_store.asset_id"
    [key] = [key for key, asset in watching.rows(query) if asset == "succeeded"]
    code = ABANDON.format(watch_id=key.removeprefix(position_key("")))
    command = [sys.executable, "-c", code]
    killed = Server(command, env=watching.airflow.env, cwd=tmp_path, output=tmp_path / "output", vital=False)
    try:
        wait_until(lambda: killed.returncode() is not None or None, "it was not killed")
        assert (killed.returncode(), killed.is_up()) == (-signal.SIGKILL, True), killed.tail()
        wait_until(lambda: watching.can_be_locked(key) or None, "its lock is held")
        assert killed.is_up()
    finally:
        killed.send_all(signal.SIGKILL)
