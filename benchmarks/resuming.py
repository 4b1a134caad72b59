"""Deferred tasks that Airflow fails although their jobs succeed, since the tasks resume soon after the deferral.

The jobs end as soon as a trigger reads their logs. The baseline is a task whose trigger fires after a second. Both
alternate in one real Airflow with its default settings; see :mod:`airflow_provider_rayagent.task_instance.resuming`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.feeder import feeder
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.task_logs import airflow_with

if TYPE_CHECKING:
    from collections.abc import Iterator

DAGS = """
from airflow.sdk import DAG
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from benchmarks.in_airflow import DeferTo

with DAG("timer", schedule=None, max_active_runs=100):
    DeferTo(task_id="timer", trigger=("TimerTrigger", 1.0))
with DAG("sensor", schedule=None, max_active_runs=100):
    RayAgentJobSensor(task_id="sensor", job_id="{{ dag_run.conf['job_id'] }}", deferrable=True)
"""
TASKS = 12
"""Tasks of each kind in a round."""
SETTINGS = {"AIRFLOW__CORE__PARALLELISM": "4", "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5"}


def measure(*, short: bool) -> Iterator[Line]:
    """Count the tasks that failed."""
    rounds = 2 if short else 5
    ids = [f"ending-1000-1-{number}" for number in range(rounds * TASKS)]
    jobs = {dag_id: iter(ids) for dag_id in ("sensor", "timer")}
    with feeder(ids) as url, airflow_with(DAGS, url, SETTINGS) as instance:

        def failed(dag_id: str) -> int:
            runs = [instance.trigger(dag_id, {"job_id": next(jobs[dag_id])}) for _ in range(TASKS)]
            return [instance.wait_for_run(dag_id, run_id) for run_id in runs].count("failed")

        ours, theirs = run_alternately(rounds, lambda: failed("sensor"), lambda: failed("timer"))
    yield Line(
        "resuming",
        f"failed tasks of {TASKS} whose jobs succeeded at once",
        "",
        ours,
        theirs,
        "a trigger that fires after a second",
        Target(maximum=0, of="figure"),
    )
