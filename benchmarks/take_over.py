"""Cost of taking over deferred jobs with long logs from a triggerer that is killed.

    python -m benchmarks take_over

The Airflow is distributed (:mod:`tests.stack.deployment`): task logs are in an object store, and the log files of the
killed triggerer are lost. A scripted agent in a separate process runs the jobs: each starts with a long log, and then
prints one line per second. A job is followed again once a line that it printed after the kill is in a log file of the
second triggerer, which is already running; Airflow needs ten seconds to notice the kill. Then the jobs end, and the
lines in the finished logs are counted. Requires a ``redis-server``.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from benchmarks.feeder import LINE_BYTES, numbered_line
from benchmarks.many_jobs import wait_until_deferred
from benchmarks.measure import Line, Target
from benchmarks.processes import ROOT, agent_process, cpu_seconds
from benchmarks.task_logs import NewLines, job_lines
from tests.scripted import Job, ScriptedAgent
from tests.stack.deployment import TRIGGERER_QUEUES, Deployment, deployment
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Agent
    from tests.stack.deployment import Machine

TASKS_A_RUN = 10
DAGS = """
from airflow.sdk import DAG
from benchmarks.in_airflow import DeferTo, JobSensorInTriggerer

with DAG("follow", schedule=None, max_active_runs={jobs}, max_active_tasks={jobs}):
    for n in range({tasks}):
        job_id = f"job-{{{{{{{{ dag_run.conf['first'] + {{n}} }}}}}}}}"
        JobSensorInTriggerer(task_id=f"follow_{{n}}", job_id=job_id)
with DAG("probe", schedule=None):
    DeferTo(task_id="probe", trigger=("ProbeTrigger", {probe!r}))
"""
CHUNK_LINES = 1_000
SETTLE_SECONDS = 20.0
"""Seconds between forwarding the long logs and the kill, in which all positions are saved."""
WATCH_SECONDS = 30.0
"""Seconds for which costs are still measured after all jobs are followed again."""
PATIENCE_SECONDS = 1_200.0


def serve(jobs: int, lines: int) -> None:
    """Run the agent: print its URL, then for each line of input the number of lines that each job has printed."""
    all_jobs = [Job(partial(long_log, lines), "RUNNING", job_id=f"job-{n}") for n in range(jobs)]
    printed = lines
    ends = threading.Event()

    def go_on() -> None:
        nonlocal printed
        while not ends.wait(1.0):
            for job in all_jobs:
                job.grow(numbered_line(printed))
            printed += 1

    with ScriptedAgent(*all_jobs) as agent:
        printer = threading.Thread(target=go_on)
        printer.start()
        print(agent.url, flush=True)
        for command in sys.stdin:
            if command == "end\n":
                ends.set()
                printer.join()
                for job in all_jobs:
                    job.set_status("SUCCEEDED")
            print(printed, flush=True)
        ends.set()


def long_log(lines: int) -> Iterator[str]:
    """Yield a log with a number of lines."""
    for start in range(0, lines, CHUNK_LINES):
        yield "".join(map(numbered_line, range(start, min(start + CHUNK_LINES, lines))))


@dataclass
class NewestLines:
    """The newest line of each job in a triggerer's log files."""

    machine: Machine
    last: dict[Path, int] = field(default_factory=dict)
    """The number of the job's newest line, by log file."""
    new_lines: NewLines = field(default_factory=NewLines)

    def look(self) -> None:
        """Read new lines."""
        for path in self.machine.log_files("dag_id=follow/*/*/attempt=1.log"):
            if numbers := list(map(number_of, self.new_lines.of(path))):
                self.last[path] = max(numbers)

    def wait_for(self, jobs: int, number: int) -> None:
        """Wait until the line with this number, or a later one, has arrived for every job."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sum(last >= number for last in self.last.values()) < jobs:
            assert time.monotonic() < deadline, sorted(self.last.values())
            time.sleep(0.2)
            self.look()


def number_of(line: str) -> int:
    """Return the number with which a line begins."""
    return int(line[:7])


@dataclass(frozen=True)
class TakeOver:
    """Measurements.

    :param again: seconds from the kill until all jobs were followed again.
    :param written: bytes that the second triggerer wrote to task logs until :data:`WATCH_SECONDS` after that.
    :param cpu: CPU seconds of its two processes in the same time.
    :param late: all delays in seconds of a 5 ms timer in its event loop in the same time.
    :param concluded: seconds from the end of the jobs until all tasks had succeeded.
    :param lines: number of lines that the jobs printed.
    :param missing: number of these lines that are not in the finished logs.
    """

    again: float
    written: int
    cpu: float
    late: list[float]
    concluded: float
    lines: int
    missing: int


def measure(*, short: bool) -> Iterator[Line]:
    """Measure one take-over."""
    jobs, lines = (10, 2_000) if short else (100, 20_000)
    result = run(jobs, lines)
    what = f"take-over of {jobs} jobs with {lines * LINE_BYTES / 1e6:g} MB of log each"
    lost = Target(maximum=0.0, of="figure")
    yield Line("take_over", f"{what}, lost", f"of {result.lines:,} lines", [result.missing], target=lost)
    yield Line("take_over", f"{what}, followed again after", "s", [result.again])
    yield Line("take_over", f"{what}, written by the second triggerer", "MB", [result.written / 1e6])
    yield Line("take_over", f"{what}, its CPU", "s", [result.cpu])
    yield Line("take_over", f"{what}, longest block of its event loop", "ms", [1_000 * max(result.late)])
    p99 = statistics.quantiles(result.late, n=100)[98]
    yield Line("take_over", f"{what}, event loop, 99% of delays below", "ms", [1_000 * p99])
    yield Line("take_over", f"{what}, tasks succeeded after the end of the jobs in", "s", [result.concluded])


def run(jobs: int, lines: int) -> TakeOver:
    """Follow jobs, kill their triggerer, and measure the second one."""
    with tempfile.TemporaryDirectory() as folder, agent_process("take_over", jobs, lines) as agent:
        probe = Path(folder) / "probe"
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "benchmark.py").write_text(DAGS.format(jobs=jobs, tasks=TASKS_A_RUN, probe=str(probe)))
        settings = {
            "AIRFLOW__TRIGGERER__CAPACITY": str(jobs + 10),
            TRIGGERER_QUEUES: "False",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        }
        connection = {"conn_type": "rayagent", "host": agent.url, "password": "t"}
        with deployment(dags, connections={"rayagent_default": connection}, settings=settings) as running:
            return take_over(running, agent, probe, jobs, lines)


def take_over(running: Deployment, agent: Agent, probe: Path, jobs: int, lines: int) -> TakeOver:
    """Do the same as :func:`run` in a running deployment."""
    airflow, [first] = running.airflow, running.triggerers
    airflow.trigger("probe")
    for start in range(0, jobs, TASKS_A_RUN):
        airflow.trigger("follow", {"first": start})
    wait_until_deferred(airflow, jobs + 1)
    NewestLines(first).wait_for(jobs, lines)
    time.sleep(SETTLE_SECONDS)

    second = running.start_triggerer()
    processes = [psutil.Process(pid) for pid in second.server.members()]
    used = cpu_seconds(processes)
    newest = NewestLines(second)
    printed, killed = int(agent.ask()), time.time()
    first.kill()
    newest.wait_for(jobs, printed)
    again = time.time() - killed
    time.sleep(WATCH_SECONDS)
    newest.look()
    cpu = cpu_seconds(processes) - used
    late = [json.loads(text) for text in probe.read_text(encoding="utf-8").splitlines()]
    probe.unlink()

    printed, ended = int(agent.ask("end")), time.time()
    wait_until_succeeded(running, jobs)
    concluded = time.time() - ended
    wait_for_uploads(running)
    return TakeOver(
        again,
        newest.new_lines.bytes,
        cpu,
        [seconds for moment, seconds in late if moment >= killed],
        concluded,
        jobs * printed,
        jobs * printed - sum(lines_of_every_task(running).values()),
    )


def wait_until_succeeded(running: Deployment, number: int) -> None:
    """Wait until this number of tasks has succeeded."""

    def succeeded() -> bool | None:
        query = "dags/follow/dagRuns/~/taskInstances?limit=1&state=success"
        return running.airflow.call("GET", query)["total_entries"] >= number or None

    wait_until(succeeded, f"fewer than {number} tasks have succeeded")


def wait_for_uploads(running: Deployment) -> None:
    """Wait until all log files are empty; Airflow empties a file when it has uploaded it."""

    def uploaded() -> bool | None:
        files = [file for machine in running.machines for file in machine.log_files("dag_id=follow/*/*/attempt")]
        return not any(file.stat().st_size for file in files) or None

    wait_until(uploaded, "log files that are not uploaded")


def lines_of_every_task(running: Deployment) -> dict[str, int]:
    """Return the number of distinct lines of the jobs in the finished logs, by run and task."""
    numbers: dict[str, set[int]] = {}
    for key in running.store.keys("dag_id=follow/"):
        numbers.setdefault(key.rpartition("/")[0], set()).update(map(number_of, job_lines(running.store.read(key))))
    return {task: len(found) for task, found in numbers.items()}


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
