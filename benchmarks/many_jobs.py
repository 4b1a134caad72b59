"""Many deferred jobs on one triggerer, each printing one line per second: lines, delays, and the cost per job.

    python -m benchmarks many_jobs

A scripted agent in a separate process runs the jobs. A real Airflow follows them in DAG runs of one or ten tasks: each
trigger holds a copy of its whole DAG, and each run adds work to the scheduler. Each line contains the time at which it
was printed; it has arrived once it is in the log file of its task, which is checked five times per second.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from benchmarks.measure import Line, Target
from benchmarks.processes import agent_process, cpu_seconds
from benchmarks.task_logs import NewLines, airflow_with, log_files
from tests.scripted import Job, ScriptedAgent
from tests.stack.triggerers import triggerers_of
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.processes import Agent
    from tests.stack.airflow import Airflow

DAGS = """
from airflow.sdk import DAG
from benchmarks.in_airflow import JobSensorInTriggerer

for size in (1, 10):
    with DAG(f"follow_{{size}}", schedule=None, max_active_runs={jobs}, max_active_tasks={jobs}):
        for n in range(size):
            job_id = f"job-{{{{{{{{ dag_run.conf['first'] + {{n}} }}}}}}}}"
            JobSensorInTriggerer(task_id=f"follow_{{n}}", job_id=job_id)
"""
SETTLE_SECONDS = 10.0
"""Seconds between opening the last job's stream and printing the first line."""
BEGIN_SECONDS = 40.0
"""Seconds at the beginning of a step in which delays are not counted, since triggers are still starting."""
CHECK_INTERVAL = 0.2
LAST_SECONDS = 30.0
"""Seconds to wait for the last lines."""


def serve(jobs: int) -> None:
    """Run the agent: print its URL, then read lines with the number of jobs that print, and for how many seconds."""
    all_jobs = [Job(job_id=f"job-{n}", status="RUNNING") for n in range(jobs)]
    with ScriptedAgent(*all_jobs) as agent:
        print(agent.url, flush=True)
        printed = [0] * jobs
        for line in sys.stdin:
            printing, seconds = map(int, line.split())
            agent.wait_until(partial(followed, agent, printing), timeout=600)
            time.sleep(SETTLE_SECONDS)
            print("prints", flush=True)
            began = time.time()
            for second in range(seconds):
                for n in range(printing):
                    time.sleep(max(began + second + n / printing - time.time(), 0.0))
                    all_jobs[n].grow(f"{printed[n]} {time.time():.3f}\n")
                    printed[n] += 1


def followed(agent: ScriptedAgent, jobs: int) -> bool:
    """Whether this number of jobs is being streamed."""
    return len(agent.open_streams) >= jobs


@dataclass
class Arrivals:
    """The lines in the log files of all tasks."""

    airflow: Airflow
    numbers: dict[Path, list[int]] = field(default_factory=dict)
    """The numbers of the lines in order of arrival, by log file."""
    delays: list[float] = field(default_factory=list)
    """Delay in seconds of each line printed after :attr:`since`."""
    since: float = 0.0
    _new_lines: NewLines = field(default_factory=NewLines)
    _paths: set[Path] = field(default_factory=set)

    def look(self, *, again: bool = False) -> None:
        """Read new lines; ``again``: search for new files too."""
        if again:
            self._paths.update(log_files(self.airflow, "follow_*", "*", "*"))
        for path in self._paths:
            lines = self._new_lines.of(path)
            now = time.time()
            for line in lines:
                number, printed = line.split()
                self.numbers.setdefault(path, []).append(int(number))
                if float(printed) >= self.since:
                    self.delays.append(now - float(printed))


@dataclass(frozen=True)
class Step:
    """Measurements while a number of jobs printed.

    :param cpu: CPU seconds per second of the process that runs the triggers, and of its supervisor.
    :param memory: bytes of the process that runs the triggers.
    :param all_cpu: the same as ``cpu`` of everything that runs on the machine, as a share of all cores.
    """

    jobs: int
    lines: int
    lost: int
    repeated: int
    delays: list[float]
    cpu: tuple[float, float]
    memory: int
    agent_cpu: float
    all_cpu: float

    def cost(self, idle: Step) -> float:
        """Return the milliseconds of CPU per job and second, in addition to the usage without jobs."""
        return 1_000 * (sum(self.cpu) - sum(idle.cpu)) / self.jobs


def measure(*, short: bool) -> Iterator[Line]:
    """Measure increasing numbers of jobs."""
    numbers, seconds = ((1, 20), 15) if short else ((1, 10, 100, 1_000), 90)
    steps = run(numbers, seconds)
    idle, first, *others = steps
    for step in others[-2:]:
        yield from lines_of(step, first)
    for step in others:
        yield Line(
            "many_jobs",
            f"CPU per job, {step.jobs:,} deferred jobs",
            "ms per second",
            [step.cost(idle)],
            [first.cost(idle)],
            "1 job",
            Target(maximum=1.2),
        )


def lines_of(step: Step, first: Step) -> Iterator[Line]:
    """Yield the lines of one number of jobs, compared with one job."""
    what = f"{step.jobs:,} deferred jobs with one line per second"
    of_lines = f"of {step.lines:,} lines"
    triggers, supervisor = step.cpu
    note = f"CPU: triggers {triggers:.0%}, supervisor {supervisor:.0%}, agent {step.agent_cpu:.0%} of a core"
    yield Line("many_jobs", f"{what}, lost", of_lines, [step.lost], target=Target(maximum=0.0, of="figure"))
    yield Line("many_jobs", f"{what}, repeated", of_lines, [step.repeated])
    percentiles = statistics.quantiles(step.delays, n=100)
    yield Line("many_jobs", f"{what}, delay p50", "s", [percentiles[49]])
    limit = Target(maximum=3.0, of="figure")
    yield Line("many_jobs", f"{what}, delay p99", "s", [percentiles[98]], target=limit, note=note)
    yield Line("many_jobs", f"{what}, all CPU of the machine in use", "%", [100 * step.all_cpu])
    memory = (step.memory - first.memory) / (step.jobs - first.jobs) / 1e6
    yield Line("many_jobs", f"{what}, memory per job", "MB", [memory], target=Target(maximum=0.5, of="figure"))


def run(numbers: tuple[int, ...], seconds: int) -> list[Step]:
    """Follow increasing numbers of jobs; return the measurements without jobs and with each number."""
    jobs = numbers[-1]
    settings = {
        "AIRFLOW__TRIGGERER__CAPACITY": str(jobs + 10),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "2",
    }
    with (
        agent_process("many_jobs", jobs) as agent,
        airflow_with(DAGS.format(jobs=jobs), agent.url, settings) as instance,
        triggerers_of(instance) as triggerers,
    ):
        arrivals = Arrivals(instance)
        triggerer = triggerers.only()
        processes = [psutil.Process(triggerer.runner), psutil.Process(triggerer.supervisor)]
        steps = [watch(agent, arrivals, processes, 0, seconds)]
        followed = 0
        for number in numbers:
            while followed < number:
                size = 10 if number - followed >= 10 else 1
                instance.trigger(f"follow_{size}", {"first": followed})
                followed += size
            wait_until_deferred(instance, number)
            steps.append(watch(agent, arrivals, processes, number, seconds))
        return steps


def wait_until_deferred(instance: Airflow, number: int) -> None:
    """Wait until this number of tasks is deferred."""

    def deferred() -> bool | None:
        query = "dags/~/dagRuns/~/taskInstances?limit=1&state=deferred"
        return instance.call("GET", query)["total_entries"] >= number or None

    wait_until(deferred, f"fewer than {number} tasks are deferred")


def watch(agent: Agent, arrivals: Arrivals, triggerer: list[psutil.Process], jobs: int, seconds: int) -> Step:
    """Let jobs print, once all of them are followed, and measure."""
    before = sum(map(len, arrivals.numbers.values()))
    known = sum(len(set(numbers)) for numbers in arrivals.numbers.values())
    agent.ask(f"{jobs} {seconds}")
    arrivals.look(again=True)
    arrivals.delays, arrivals.since = [], time.time() + min(BEGIN_SECONDS, seconds / 2)
    processes = [*triggerer, psutil.Process(agent.pid)]
    used = [cpu_seconds([each]) for each in processes]
    began = time.monotonic()
    # Its first call begins the measurement of the second one.
    psutil.cpu_percent()
    while time.monotonic() < began + seconds:
        arrivals.look()
        time.sleep(CHECK_INTERVAL)
    elapsed = time.monotonic() - began
    cpu = [(cpu_seconds([each]) - then) / elapsed for each, then in zip(processes, used, strict=True)]
    all_cpu = psutil.cpu_percent() / 100
    memory = int(triggerer[0].memory_info().rss)
    expected = known + jobs * seconds
    while known < expected and time.monotonic() < began + seconds + LAST_SECONDS:
        time.sleep(CHECK_INTERVAL)
        arrivals.look(again=True)
        known = sum(len(set(numbers)) for numbers in arrivals.numbers.values())
    arrived = sum(map(len, arrivals.numbers.values())) - before
    lost = expected - known
    triggers_cpu, supervisor_cpu, agent_cpu = cpu
    step = Step(
        jobs,
        lines=jobs * seconds,
        lost=lost,
        repeated=arrived - jobs * seconds + lost,
        delays=arrivals.delays,
        cpu=(triggers_cpu, supervisor_cpu),
        memory=memory,
        agent_cpu=agent_cpu,
        all_cpu=all_cpu,
    )
    shares = f"CPU {cpu}, of the machine {all_cpu:.0%}"
    print(f"{jobs} jobs: {shares}, {memory / 1e6:.1f} MB, {lost} lost, {step.repeated} repeated", flush=True)
    return step


if __name__ == "__main__":
    serve(int(sys.argv[1]))
