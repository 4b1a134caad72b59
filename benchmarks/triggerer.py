"""Lines per second that a trigger writes to its log file, and how long it blocks the other triggers.

The baseline is a trigger that logs the same lines from memory, one record per line. Both alternate in the same
triggerer of a real Airflow. A third trigger measures the delays of a 5 ms timer, during which the event loop is
blocked.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from itertools import count
from pathlib import Path
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
from benchmarks.in_airflow import DeferTo

with DAG("from_memory", schedule=None):
    DeferTo(task_id="from_memory", trigger=("LogFromMemoryTrigger", {lines}))
with DAG("sensor", schedule=None):
    RayAgentJobSensor(task_id="sensor", job_id="{{{{ dag_run.conf['job_id'] }}}}", deferrable=True)
with DAG("probe", schedule=None):
    DeferTo(task_id="probe", trigger=("ProbeTrigger", {probe!r}))
"""


def measure(*, short: bool) -> Iterator[Line]:
    """Measure both triggers."""
    lines, rounds = (6_000, 3) if short else (30_000, 5)
    ids = [f"ending-{lines}-1-{number}" for number in range(rounds)]
    numbers = count()
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe"
        with feeder(ids) as url, airflow_with(DAGS.format(lines=lines, probe=str(probe)), url) as instance:
            run_id = instance.trigger("probe")
            instance.wait_for_task("probe", run_id, "probe", ("deferred",))
            ours, theirs = run_alternately(
                rounds,
                lambda: run_and_read(instance, "sensor", ids[next(numbers)], JOB_LOGGER, lines),
                lambda: run_and_read(instance, "from_memory", "", MEMORY_LOGGER),
            )
        late = [json.loads(line) for line in probe.read_text(encoding="utf-8").splitlines()]
    against = "a trigger that logs lines from memory"
    yield Line(
        "triggerer",
        "deferred sensor",
        "lines/s",
        [logged.rate for logged in ours],
        [logged.rate for logged in theirs],
        against,
        Target(minimum=4.0),
        f"{ours[0].lines / ours[0].records:.1f} lines per record",
    )
    for what, worst, target in (
        ("longest block", 100, Target(maximum=50.0, of="figure")),
        ("99% of delays below", 99, None),
    ):
        yield Line(
            "triggerer",
            f"event loop, {what}",
            "ms",
            [lateness(late, logged, worst) for logged in ours],
            [lateness(late, logged, worst) for logged in theirs],
            against,
            target,
        )


def lateness(late: list[list[float]], logged: Logged, percentile: int) -> float:
    """Return a percentile of the timer's delays, in milliseconds, while lines were logged.

    :param late: pairs of a time and a delay in seconds.
    :param percentile: 1 to 99, or 100 for the maximum.
    """
    found = sorted(seconds for moment, seconds in late if logged.began <= moment <= logged.ended + seconds)
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return 1_000 * [*cuts, found[-1]][percentile - 1]
