"""Lines per second that a sensor in a worker writes to its task log, compared with a task that logs from memory.

Both are alternating tasks of one real Airflow; the lines in their log files are counted. The agent sends lines as fast
as they are read. In one log, the levels of the lines alternate, so each line is a separate record; in the other, lines
are joined.
"""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING

from airflow_provider_rayagent.render.records import JOB_LOGGER
from benchmarks.feeder import feeder
from benchmarks.in_airflow import MEMORY_LOGGER
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.task_logs import Logged, airflow_with, run_and_read

if TYPE_CHECKING:
    from collections.abc import Iterator

DAGS = """
from airflow.sdk import DAG
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from benchmarks.in_airflow import LogFromMemory

with DAG("from_memory", schedule=None):
    LogFromMemory(task_id="from_memory", lines={lines})
with DAG("mixed_from_memory", schedule=None):
    LogFromMemory(task_id="mixed_from_memory", lines={lines}, mixed=True)
with DAG("sensor", schedule=None):
    RayAgentJobSensor(task_id="sensor", job_id="{{{{ dag_run.conf['job_id'] }}}}")
"""
CASES = (
    ("one record per line", "m", "mixed_from_memory", 0.9),
    ("joined under load", "j", "from_memory", 4.0),
)


def measure(*, short: bool) -> Iterator[Line]:
    """Measure both logs."""
    lines, rounds = (10_000, 2) if short else (60_000, 5)
    ids = {kind: [f"ending-{lines}-1-{kind}{number}" for number in range(rounds)] for _, kind, _, _ in CASES}
    with feeder(list(chain(*ids.values()))) as url, airflow_with(DAGS.format(lines=lines), url) as instance:
        for what, kind, memory, least in CASES:
            numbers = count()

            def sensor(kind: str = kind, numbers: Iterator[int] = numbers) -> Logged:
                return run_and_read(instance, "sensor", ids[kind][next(numbers)], JOB_LOGGER, lines)

            def from_memory(memory: str = memory) -> Logged:
                return run_and_read(instance, memory, "", MEMORY_LOGGER, lines)

            ours, theirs = run_alternately(rounds, sensor, from_memory)
            yield Line(
                "worker",
                f"sensor, {what}",
                "lines/s",
                [logged.rate for logged in ours],
                [logged.rate for logged in theirs],
                "a task that logs lines from memory",
                Target(minimum=least),
                f"{ours[0].lines / ours[0].records:.1f} lines per record",
            )
