"""The metrics that a StatsD listener receives from the workers and the triggerer of a running Airflow."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.metrics import names
from tests.scripted import Close, Complete, Follow, Job, Log, Play, ScriptedAgent, SetStatus
from tests.stack.watch import wait_until
from tests.system.user_acts import ACTS, FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.statsd import StatsdListener
    from tests.system.support import System, Task

DAGS = {"worker": "system_plain", "deferred": "system_deferred"}
STOPPING_DAGS = {"worker": "system_stops", "deferred": "system_deferred_stops"}
TEXT = "one\n  two\n"
FAILS = "print('a line', flush=True)\nraise SystemExit(3)"
both_modes = pytest.mark.parametrize("mode", DAGS)


def closed_job() -> Job:
    """Return a job whose first stream is closed early."""
    ends = Play(SetStatus("SUCCEEDED"), Follow(), Complete())
    return Job(TEXT, "RUNNING", ws=[Play(Log("one\n"), Close(1001)), ends], sse=[ends])


class Followed:
    """Tasks that follow jobs, by mode and job; all at once, since each takes a while.

    Every mode has its own connections: ``metrics_MODE``, ``scripted_MODE`` and ``stopping_MODE``.
    """

    def __init__(self, system: System, agents: dict[str, ScriptedAgent]) -> None:
        self._connections: set[str] = set()
        steady = {mode: system.submit_steady() for mode in DAGS}
        self.steady = {mode: self._follow(system, mode, steady[mode], "metrics") for mode in DAGS}
        self.stopping = {mode: self._follow(system, mode, system.submit_steady(), "stopping") for mode in DAGS}
        self.fails = {mode: self._follow(system, mode, system.submit(FAILS), "metrics") for mode in DAGS}
        self.closed = {
            mode: system.follow("j1", DAGS[mode], conn_id=system.connect(f"scripted_{mode}", host=agent.url))
            for mode, agent in agents.items()
        }
        for task in (*self.steady.values(), *self.stopping.values()):
            task.wait_for_lines(3)
        for task in self.stopping.values():
            ACTS[FAILED](system.airflow, task)
        self.jobs = steady
        system.release(*steady.values())

    def _follow(self, system: System, mode: str, job_id: str, connection: str) -> Task:
        conn_id = f"{connection}_{mode}"
        if conn_id not in self._connections:
            self._connections.add(system.connect(conn_id))
        dags = STOPPING_DAGS if connection == "stopping" else DAGS
        return system.follow(job_id, dags[mode], conn_id=conn_id)


@pytest.fixture(scope="module")
def followed(system: System) -> Iterator[Followed]:
    with ExitStack() as stack:
        agents = {mode: stack.enter_context(ScriptedAgent(closed_job())) for mode in DAGS}
        yield Followed(system, agents)


def wait_for(statsd: StatsdListener, metric: names.Metric, value: float, **tags: str) -> None:
    """Wait until the sum of a counter is ``value``, or a gauge's last value."""

    def received() -> bool | None:
        values = statsd.values(metric.name, **tags)
        return (sum(values) if metric.kind == "counter" else [None, *values][-1]) == value or None

    wait_until(received, lambda: f"{metric.name} with {tags} is not {value}: {statsd.samples(metric.name)}")


@pytest.mark.each_airflow
@both_modes
def test_jobs_that_succeed_and_fail(mode: str, system: System, statsd: StatsdListener, followed: Followed) -> None:
    followed.steady[mode].assert_ends("success")
    tags = {"conn_id": f"metrics_{mode}", "mode": mode}
    wait_for(statsd, names.JOB_ENDS, 1, status="SUCCEEDED", **tags)
    followed.fails[mode].assert_ends("failed")
    wait_for(statsd, names.JOB_ENDS, 1, status="FAILED", **tags)
    log = system.log_of(followed.jobs[mode])
    assert statsd.total(names.LINES.name, **tags) >= len(log)
    assert statsd.total(names.BYTES.name, **tags) >= len("\n".join(log).encode())
    assert statsd.total(names.FOLLOWING_MS.name, **tags) > 0
    assert min(statsd.values(names.LINE_LAG.name, **tags)) >= 0
    assert min(statsd.values(names.END_DELAY.name, **tags)) >= 0


@both_modes
def test_a_stream_that_was_closed_is_a_reconnect(mode: str, statsd: StatsdListener, followed: Followed) -> None:
    followed.closed[mode].assert_ends("success")
    wait_for(statsd, names.RECONNECTS, 1, cause="closed", conn_id=f"scripted_{mode}", mode=mode)


@both_modes
def test_the_stop_of_a_job_whose_task_a_user_has_ended(mode: str, statsd: StatsdListener, followed: Followed) -> None:
    wait_for(statsd, names.STOPS, 1, cause="task_ended", conn_id=f"stopping_{mode}")


def test_a_stop_operator(system: System, statsd: StatsdListener) -> None:
    before = statsd.total(names.STOPS.name, cause="stop_operator")
    system.stop(system.submit_steady()).assert_ends("success")
    wait_for(statsd, names.STOPS, before + 1, cause="stop_operator")


@pytest.mark.each_airflow
def test_a_triggerer_tells_how_many_jobs_it_follows(statsd: StatsdListener, followed: Followed) -> None:
    followed.steady["deferred"].assert_ends("success")
    followed.fails["deferred"].assert_ends("failed")
    wait_for(statsd, names.JOBS_FOLLOWED, 0, conn_id="metrics_deferred")
    assert max(statsd.values(names.JOBS_FOLLOWED.name, conn_id="metrics_deferred")) >= 1
    assert statsd.samples(names.JOBS_FOLLOWED.name, conn_id="metrics_worker") == []
    hosts = {sample.tags["hostname"] for sample in statsd.samples(names.JOBS_FOLLOWED.name)}
    assert len(hosts) == 1
