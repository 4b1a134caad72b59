"""Many deferred jobs on one triggerer: worker slots, lines, delays, and what the triggerer costs.

    python -m benchmarks.many_jobs --jobs 100 --seconds 60

A scripted agent, in a process of its own, runs the jobs, each of which prints a line a second. A real Airflow follows
each with a deferred sensor. A line holds the moment at which it was printed, its record that at which it was written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import requests

from airflow_provider_rayagent.hooks.common import JOB_LOGGER
from tests.scripted import Job, ScriptedAgent
from tests.stack.airflow import Airflow, airflow
from tests.stack.triggerers import triggerers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DAG_ID = "many_jobs"
DAG = """
from airflow.sdk import DAG
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG({dag_id!r}, schedule=None, max_active_tasks={jobs}):
    for n in range({jobs}):
        RayAgentJobSensor(task_id=f"follow_{{n}}", job_id=f"job_{{n}}", deferrable=True, start_from_trigger={direct})
"""
WARM_UP_SECONDS = 10.0
"""Lines of a job's first seconds of being followed count as lines, but not as delays: they were printed before."""


def serve(jobs: int, seconds: int) -> None:
    """Be the agent: print its URL, begin when a line comes in, and run until the input ends."""
    all_jobs = [Job(job_id=f"job_{n}", status="RUNNING") for n in range(jobs)]
    with ScriptedAgent(*all_jobs) as agent:
        print(agent.url, flush=True)
        sys.stdin.readline()
        began = time.time()
        for second in range(seconds):
            for n, job in enumerate(all_jobs):
                time.sleep(max(began + second + n / jobs - time.time(), 0.0))
                job.grow(f"{second} {time.time():.3f}\n")
        for job in all_jobs:
            job.set_status("SUCCEEDED")
        sys.stdin.read()


@contextmanager
def agent_process(jobs: int, seconds: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.many_jobs", "--serve", "--jobs", str(jobs), "--seconds", str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Counts:
    """Task instances by state, at one moment."""

    deferred: int
    running: int
    ended: int


def counts_of(instance: Airflow, run_id: str) -> Counts:
    def total(*states: str) -> int:
        answer = requests.get(
            f"{instance.url}/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances",
            params=[("limit", "1"), *(("state", state) for state in states)],
            timeout=60,
        )
        answer.raise_for_status()
        return int(answer.json()["total_entries"])

    return Counts(total("deferred"), total("running", "queued"), total("success", "failed"))


def measure(jobs: int, seconds: int, *, direct: bool) -> dict[str, Any]:
    """Run the benchmark; return its figures."""
    with tempfile.TemporaryDirectory() as dags, agent_process(jobs, seconds) as agent:
        assert agent.stdout is not None
        assert agent.stdin is not None
        url = agent.stdout.readline().strip()
        (Path(dags) / "many.py").write_text(DAG.format(dag_id=DAG_ID, jobs=jobs, direct=direct), encoding="utf-8")
        connection = {"conn_type": "rayagent", "host": url, "password": "t"}
        settings = {
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__TRIGGERER__CAPACITY": str(jobs + 10),
            "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
        }
        with (
            airflow(Path(dags), connections={"rayagent_default": connection}, settings=settings) as instance,
            triggerers_of(instance) as triggerers,
        ):
            run_id = instance.trigger(DAG_ID, {})
            while counts_of(instance, run_id).deferred < jobs:
                time.sleep(1.0)
            triggerer = triggerers.holding(instance.task_instance(DAG_ID, run_id, "follow_0"))
            runner, supervisor = psutil.Process(triggerer.runner), psutil.Process(triggerer.supervisor)
            used = cpu_seconds(runner), cpu_seconds(supervisor)
            began = time.time()
            agent.stdin.write("go\n")
            agent.stdin.flush()
            watched = []
            while time.time() < began + seconds - 2:
                time.sleep(1.0)
                watched.append(counts_of(instance, run_id))
            elapsed = time.time() - began
            figures = {
                "worker slots while watched, most": max(each.running for each in watched),
                "runner: CPU of one core": (cpu_seconds(runner) - used[0]) / elapsed,
                "supervisor: CPU of one core": (cpu_seconds(supervisor) - used[1]) / elapsed,
                "runner: MB": runner.memory_info().rss / 1e6,
            }
            instance.wait_for_run(DAG_ID, run_id, timeout=60 + 4 * jobs)
            return figures | lines_of(instance, run_id, jobs, seconds, began)


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def lines_of(instance: Airflow, run_id: str, jobs: int, seconds: int, began: float) -> dict[str, Any]:
    """Return what became of the lines."""
    missing = repeated = 0
    delays = []
    for n in range(jobs):
        seen: list[int] = []
        for record in instance.log(DAG_ID, run_id, f"follow_{n}"):
            if record.get("logger") != JOB_LOGGER:
                continue
            written = datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00")).timestamp()
            for line in record["event"].split("\n"):
                number, _, printed = line.partition(" ")
                if not number.isdigit():
                    continue
                seen.append(int(number))
                if float(printed) > began + WARM_UP_SECONDS:
                    delays.append(written - float(printed))
        missing += seconds - len(set(seen))
        repeated += len(seen) - len(set(seen))
    cuts = statistics.quantiles(delays, n=100)
    return {
        "lines": jobs * seconds,
        "missing": missing,
        "repeated": repeated,
        "delay p50, s": cuts[49],
        "delay p99, s": cuts[98],
        "delay longest, s": max(delays),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=60, help="how long each job prints")
    parser.add_argument("--direct", action="store_true", help="start_from_trigger, without a worker at the beginning")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.jobs, options.seconds)
        return
    figures = measure(options.jobs, options.seconds, direct=options.direct)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
