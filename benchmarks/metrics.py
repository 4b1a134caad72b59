"""What the metrics cost a worker: a job of many lines is observed without their code, with metrics off, and on.

Metrics that are on are sent to a listener on a real socket, which checks that it received the number of lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.feeder import feeder
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.observed_job import WITHOUT
from tests.stack.statsd import statsd_listener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WARM_UP_LINES = 2_000
VARIANTS = (WITHOUT, "off", "on")


def measure(*, short: bool) -> Iterator[Line]:
    """Observe jobs of one line per message, the most expensive kind."""
    lines, rounds = (50_000, 2) if short else (200_000, 7)
    runs = rounds * len(VARIANTS)
    job_ids = [f"ending-{lines}-1-{number}" for number in range(runs)]
    warm_ups = [f"ending-{WARM_UP_LINES}-1-{number}" for number in range(runs)]
    with statsd_listener() as listener, feeder([*job_ids, *warm_ups]) as url:
        numbers = count()

        def run(variant: str) -> dict[str, float]:
            number = next(numbers)
            settings = listener.settings if variant == "on" else {}
            return observed(variant, url, warm_ups[number], job_ids[number], settings)

        results = dict(
            zip(VARIANTS, run_alternately(rounds, *(lambda name=name: run(name) for name in VARIANTS)), strict=True)
        )
        if any(result["lines"] != lines for found in results.values() for result in found):
            raise AssertionError(f"lines are missing: {results}")
        received = listener.total("rayagent.lines")
        if received != rounds * (lines + WARM_UP_LINES):
            raise AssertionError(f"the metrics say {received} lines")
    cpu = {name: [result["cpu"] for result in found] for name, found in results.items()}
    for name, target in (("off", Target(maximum=1.05)), ("on", None)):
        yield Line(
            "metrics",
            f"CPU time to forward {lines:,} lines in a worker, metrics {name}",
            "s",
            cpu[name],
            cpu[WITHOUT],
            "without the code of the metrics",
            target,
        )


def observed(variant: str, url: str, warm_up: str, job_id: str, settings: Mapping[str, str]) -> dict[str, float]:
    """Return what a process that observes a job has measured."""
    connection = {"conn_type": "rayagent", "host": url, "password": "t"}
    environment = {**os.environ, **settings, "AIRFLOW_CONN_RAYAGENT_DEFAULT": json.dumps(connection)}
    command = [sys.executable, "-m", "benchmarks.observed_job", variant, warm_up, job_id]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
