"""The metrics that a StatsD listener receives from the workers and the triggerer of a running Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.metrics import names
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from tests.stack.statsd import StatsdListener
    from tests.system.support import System, Task

DAGS = {"worker": "system_plain", "deferred": "system_deferred"}
FAILS = "print('a line', flush=True)\nraise SystemExit(3)"
both_modes = pytest.mark.parametrize("mode", DAGS)


class Followed:
    """Tasks that follow jobs, by mode; all at once, since each takes a while.

    Every mode has its own connection: ``metrics_MODE``.
    """

    def __init__(self, system: System) -> None:
        jobs = {mode: system.submit_steady() for mode in DAGS}
        self.steady = {mode: self._follow(system, mode, jobs[mode]) for mode in DAGS}
        self.fails = {mode: self._follow(system, mode, system.submit(FAILS)) for mode in DAGS}
        for task in self.steady.values():
            task.wait_for_lines(3)
        system.release(*jobs.values())

    def _follow(self, system: System, mode: str, job_id: str) -> Task:
        return system.follow(job_id, DAGS[mode], conn_id=f"metrics_{mode}")


@pytest.fixture(scope="module")
def followed(system: System) -> Followed:
    for mode in DAGS:
        system.connect(f"metrics_{mode}")
    return Followed(system)


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
    assert min(statsd.values(names.LINE_LAG.name, **tags)) >= 0
    assert min(statsd.values(names.END_DELAY.name, **tags)) >= 0


@pytest.mark.each_airflow
def test_a_triggerer_tells_how_many_jobs_it_follows(statsd: StatsdListener, followed: Followed) -> None:
    followed.steady["deferred"].assert_ends("success")
    followed.fails["deferred"].assert_ends("failed")
    wait_for(statsd, names.JOBS_FOLLOWED, 0, conn_id="metrics_deferred")
    assert max(statsd.values(names.JOBS_FOLLOWED.name, conn_id="metrics_deferred")) >= 1
    assert statsd.samples(names.JOBS_FOLLOWED.name, conn_id="metrics_worker") == []
    hosts = {sample.tags["hostname"] for sample in statsd.samples(names.JOBS_FOLLOWED.name)}
    assert len(hosts) == 1
