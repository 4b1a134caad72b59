"""Cost of importing our operators and sensors in a DAG file, in addition to Airflow's base classes.

Each import runs in a new interpreter that has already imported Airflow's base classes, with cached byte code. Times are
CPU times. The garbage collector is disabled, since a full collection of Airflow's objects takes longer than an import
and happens at random.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Line, Target, run_alternately
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRANSPORTS = ("aiohttp", "httpx", "ray", "requests", "tenacity", "urllib3", "websocket", "websockets")
TARGET_MS = 15.0

PROGRAM = """
import gc, json, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
before = set(sys.modules)
gc.collect()
gc.disable()
clock = time.process_time()
for module in json.loads(sys.argv[1]):
    __import__(module)
imported = time.process_time() - clock
print(json.dumps([imported, sorted(set(sys.modules) - before)]))
"""
OURS = ("airflow_provider_rayagent.sensors.rayagent", "airflow_provider_rayagent.operators.rayagent")
PEER = "HttpSensor, HttpOperator"
PEERS = ("airflow.providers.http.sensors.http", "airflow.providers.http.operators.http")


@dataclass(frozen=True)
class Cost:
    """Cost of an import.

    :param milliseconds: CPU time.
    :param modules: names of the loaded modules.
    """

    milliseconds: float
    modules: tuple[str, ...]

    @property
    def transports(self) -> str:
        """The names of the loaded transport libraries."""
        names = {name.partition(".")[0] for name in self.modules}
        return ", ".join(sorted(names.intersection(TRANSPORTS))) or "none"


def measure(*, short: bool) -> Iterator[Line]:
    """Import repeatedly."""
    with tempfile.TemporaryDirectory() as cache:
        for modules in (OURS, PEERS):
            cost_of(modules, cache)
        ours, theirs = run_alternately(
            3 if short else 9, *((lambda each=each: cost_of(each, cache)) for each in (OURS, PEERS))
        )
    yield Line(
        "imports",
        "importing operators and sensors, CPU time",
        "ms",
        [cost.milliseconds for cost in ours],
        [cost.milliseconds for cost in theirs],
        PEER,
        Target(maximum=TARGET_MS, of="figure"),
        f"transports loaded: {ours[0].transports}; theirs: {theirs[0].transports}",
    )


def cost_of(modules: Sequence[str], cache: str) -> Cost:
    """Import modules in a new interpreter with byte code in ``cache``."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {
        "AIRFLOW_HOME": cache,
        "PYTHONPYCACHEPREFIX": cache,
        "PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", PROGRAM, json.dumps(modules)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=300)
    seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    return Cost(seconds * 1e3, tuple(loaded))
