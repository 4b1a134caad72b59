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
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.measure import Line, Target, run_alternately
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSPORTS = ("aiohttp", "httpx", "ray", "requests", "tenacity", "urllib3", "websocket", "websockets")
TARGET_MS = 15.0
COMMANDS_TARGET_MS = 2.0
PLUGIN_TARGET_MS = 2.0

PROGRAM = """
import gc, json, sys, time, tracemalloc
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
imports, tasks, traced = json.loads(sys.argv[1])
before = set(sys.modules)
gc.collect()
gc.disable()
if traced:
    tracemalloc.start()
clock = time.process_time()
for module in imports:
    __import__(module)
imported = time.process_time() - clock
memory = tracemalloc.get_traced_memory()[0] if traced else 0
loaded = sorted(set(sys.modules) - before)
made = 0.0
with DAG("d"):
    for module, name, arguments in tasks:
        kind = getattr(sys.modules[module], name)
        clock = time.process_time()
        kind(task_id=name, **arguments)
        made += time.process_time() - clock
print(json.dumps([imported, memory, made, loaded]))
"""
DISCOVERY = """
import dataclasses, enum, json, re, time, typing, urllib.parse
clock = time.process_time()
from airflow_provider_rayagent.get_provider_info import get_provider_info
get_provider_info()
print(time.process_time() - clock)
"""

PLUGIN = """
import asyncio, time
import airflow.plugins_manager
clock = time.process_time()
from airflow_provider_rayagent.ui.plugin import RayAgentPlugin
print(time.process_time() - clock)
"""
COMMANDS = """
import gc, sys, time
from airflow.cli.cli_parser import AirflowHelpFormatter, DefaultHelpParser, _add_command, airflow_commands
for name in [name for name in sys.modules if name.startswith("airflow_provider_rayagent.cli")]:
    del sys.modules[name]
subparsers = DefaultHelpParser(formatter_class=AirflowHelpFormatter).add_subparsers()
_add_command(subparsers, next(command for command in airflow_commands if command.name == "pools"))
gc.collect()
gc.disable()
clock = time.process_time()
from airflow_provider_rayagent.cli.definition import get_commands
groups = get_commands()
defined = time.process_time()
for group in groups:
    _add_command(subparsers, group)
print(defined - clock, time.process_time() - defined)
"""


@dataclass(frozen=True)
class Package:
    """Classes to import, by module, each with the arguments of one task."""

    name: str
    tasks: tuple[tuple[str, str, dict[str, object]], ...]

    @property
    def is_installed(self) -> bool:
        """Whether it is installed."""
        try:
            return all(find_spec(module) for module, _, _ in self.tasks)
        except ModuleNotFoundError:
            return False


OURS = Package(
    "ours",
    (
        ("airflow_provider_rayagent.sensors.rayagent", "RayAgentJobSensor", {"job_id": "j"}),
        ("airflow_provider_rayagent.sensors.rayagent", "RayAgentServeApplicationSensor", {"name": "s"}),
        ("airflow_provider_rayagent.sensors.rayagent", "RayAgentCapacitySensor", {"num_gpus": 1}),
        ("airflow_provider_rayagent.operators.rayagent", "RayAgentRunPluginOperator", {"lookup": "p", "action": "a"}),
        ("airflow_provider_rayagent.operators.rayagent", "RayAgentSubmitJobOperator", {"entrypoint": "true"}),
        ("airflow_provider_rayagent.operators.rayagent", "RayAgentStopJobOperator", {"job_id": "j"}),
        ("airflow_provider_rayagent.operators.rayagent", "RayAgentDeleteServeApplicationOperator", {"name": "s"}),
    ),
)
PEERS = (
    Package(
        "HttpSensor, HttpOperator",
        (
            ("airflow.providers.http.sensors.http", "HttpSensor", {"endpoint": "e"}),
            ("airflow.providers.http.operators.http", "HttpOperator", {"endpoint": "e"}),
        ),
    ),
    Package(
        "ExternalTaskSensor",
        (
            (
                "airflow.providers.standard.sensors.external_task",
                "ExternalTaskSensor",
                {"external_dag_id": "d", "external_task_id": "t"},
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Cost:
    """Cost of an import.

    :param imported: seconds for the import.
    :param memory: bytes allocated by Python; 0 if not traced.
    :param made: seconds for creating one task of each class.
    :param modules: names of the loaded modules.
    """

    imported: float
    memory: int
    made: float
    modules: tuple[str, ...]

    @property
    def transports(self) -> str:
        """The names of the loaded transport libraries."""
        names = {name.partition(".")[0] for name in self.modules}
        return ", ".join(sorted(names.intersection(TRANSPORTS))) or "none"


def measure(*, short: bool) -> Iterator[Line]:
    """Import repeatedly."""
    rounds = 3 if short else 9
    with tempfile.TemporaryDirectory() as cache:
        everyone = (OURS, *(peer for peer in PEERS if peer.is_installed))
        traced = [_cost(package, cache, traced=True) for package in everyone]
        ours, *others = run_alternately(rounds, *((lambda each=each: _cost(each, cache)) for each in everyone))
        for peer, costs, memory in zip(everyone[1:], others, traced[1:], strict=True):
            yield Line(
                "imports",
                "importing operators and sensors, CPU time",
                "ms",
                [cost.imported * 1e3 for cost in ours],
                [cost.imported * 1e3 for cost in costs],
                peer.name,
                Target(maximum=TARGET_MS, of="figure"),
                f"transports loaded: {ours[0].transports}; theirs: {costs[0].transports}",
            )
            yield Line(
                "imports",
                "the same, memory",
                "MB",
                [traced[0].memory / 1e6],
                [memory.memory / 1e6],
                peer.name,
                note=f"{len(traced[0].modules)} modules; theirs: {len(memory.modules)}",
            )
            yield Line(
                "imports",
                "creating a task, CPU time",
                "ms",
                [cost.made * 1e3 / len(OURS.tasks) for cost in ours],
                [cost.made * 1e3 / len(peer.tasks) for cost in costs],
                peer.name,
                note="the first of each class",
            )
        discovered = [float(_run(DISCOVERY, cache)) for _ in range(rounds + 1)][1:]
        yield Line(
            "imports",
            "loading the provider info at startup, CPU time",
            "ms",
            [seconds * 1e3 for seconds in discovered],
            note="once per Airflow process",
        )
        plugin = [float(_run(PLUGIN, cache)) for _ in range(rounds + 1)][1:]
        yield Line(
            "imports",
            "importing the plugin of the Ray page, CPU time",
            "ms",
            [seconds * 1e3 for seconds in plugin],
            target=Target(maximum=PLUGIN_TARGET_MS, of="figure"),
            note="once per Airflow process other than the API server",
        )
        commands = [[float(part) * 1e3 for part in _run(COMMANDS, cache).split()] for _ in range(rounds + 1)][1:]
        yield Line(
            "imports",
            "defining the commands of `airflow rayagent`, CPU time",
            "ms",
            [defined for defined, _ in commands],
            target=Target(maximum=COMMANDS_TARGET_MS, of="figure"),
            note="once per `airflow` command",
        )
        yield Line(
            "imports",
            "Airflow's parsers for them, CPU time",
            "ms",
            [parsed for _, parsed in commands],
            note="once per `airflow` command",
        )


def _cost(package: Package, cache: str, *, traced: bool = False) -> Cost:
    modules = list(dict.fromkeys(module for module, _, _ in package.tasks))
    imported, memory, made, loaded = json.loads(_run(PROGRAM, cache, json.dumps([modules, package.tasks, traced])))
    return Cost(imported, memory, made, tuple(loaded))


def _run(program: str, cache: str, *arguments: str) -> str:
    """Run a program in a new interpreter with byte code in ``cache``; return the last line of its output."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {
        "AIRFLOW_HOME": cache,
        "PYTHONPYCACHEPREFIX": cache,
        "PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()[-1]
