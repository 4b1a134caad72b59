"""How long a look at Ray's records takes, at a job with many tasks and at one with ten.

    python -m benchmarks looks

A real Ray has a job that FAILED after every tenth of its tasks had failed, jobs whose tasks wait, or jobs whose tasks
run: each with :data:`FEW` tasks and with many. A look at each of them is made in turns, as a task makes it, without
what an earlier one has found. Ray keeps 100,000 tasks (``task_events_max_num_task_in_gcs`` in ``ray_config_def.h``),
and converts up to 10,000 of those that match, however few are asked for (``list_tasks`` in
``dashboard/state_aggregator.py``): more tasks than that cost no more.
"""

from __future__ import annotations

import shlex
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.shared_records import SharedRecords
from airflow_provider_rayagent.activity.silence_look import look_at_silence
from airflow_provider_rayagent.activity.wait_look import look_at_wait
from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.failures.failure_look import LOOK_SECONDS, MAX_REQUESTS, FailureLook
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from benchmarks.measure import Line, Target, run_alternately
from tests.stack.ray import cluster
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.services.call import Call, Steps
    from tests.stack.ray import Cluster

FEW = 10
ROUNDS = 5
SECONDS = 15
"""How long Ray's records of the last tasks may be on their way: workers report once a second."""
# Workers drop what they cannot report in time (``task_events_max_num_status_events_buffer_on_worker``).
BEGIN = """
import asyncio, pathlib, sys, time, ray
ray.init(log_to_driver=False)
def submitted(function, count):
    for number in range(count):
        if number % 5000 == 4999:
            time.sleep(1)
        yield function.remote(number)
"""
END = """
tasks = list(submitted(function, {count}))
pathlib.Path({path!r}).touch()
ray.wait(tasks, num_returns=len(tasks))
ray.get(tasks)
"""
PROGRAMS = {
    "failed": """
@ray.remote(max_retries=0)
def function(number):
    if number % 10 == 7:
        raise ValueError(f"bad row {number}")
""",
    "waits": """
@ray.remote(resources={"unicorn": 1})
def function(number): pass
""",
    "is silent": """
@ray.remote(num_cpus=0, max_concurrency=100_000)
class Server:
    async def serve(self, number): await asyncio.sleep(36_000)
server = Server.remote()
function = server.serve
""",
}
TARGETS = {"failed": Target(maximum=LOOK_SECONDS, of="figure")}
"""What the task waits for: the other looks are made beside it."""


class CountingClient(BlockingServiceClient):
    """Counts its requests."""

    requests = 0

    async def _send_once(self, call: Call, attempt: int) -> Any:
        self.requests += 1
        return await super()._send_once(call, attempt)


def measure(*, short: bool) -> Iterator[Line]:
    """Look at jobs."""
    for count in (100,) if short else (1_000, 100_000):
        for kind in PROGRAMS:
            with cluster() as ray:
                # The small one is the last: Ray drops the oldest tasks.
                many, few = (start(ray, kind, number) for number in (count, FEW))
                config = read_config(host=ray.dashboard_url, extra={"service": "ray"})
                ours, theirs = run_alternately(
                    ROUNDS, *(partial(look, config, kind, ray.job(job_id), job_id) for job_id in (many, few))
                )
            requests = max(number for _, number in ours)
            if requests > MAX_REQUESTS:
                raise AssertionError(f"{requests} requests")
            yield Line(
                "looks",
                f"look at why a job of {count:,} tasks {kind}",
                "s",
                [seconds for seconds, _ in ours],
                [seconds for seconds, _ in theirs],
                f"{FEW} tasks",
                TARGETS.get(kind),
                f"{requests} requests",
            )


def start(ray: Cluster, kind: str, count: int) -> str:
    """Start a job; return its id when Ray has records of its tasks."""
    path: Path = ray.directory / f"submitted-{count}"
    program = BEGIN + PROGRAMS[kind] + END.format(count=count, path=str(path))
    job_id = ray.submit(f"python -c {shlex.quote(program)}")
    what = f"the job with {count} tasks that {kind} is not ready"
    wait_until(lambda: path.exists() or None, what)
    if kind == "failed":
        wait_until(lambda: ray.job(job_id)["status"] == "FAILED" or None, what)
    time.sleep(SECONDS)
    return job_id


def look(config: ServiceConfig, kind: str, job: dict[str, Any], job_id: str) -> tuple[float, int]:
    """Look at a job; return the time that it takes in seconds, and the number of its requests."""
    records = SharedRecords(config.service, time.monotonic, config.clock.seconds_since)
    with CountingClient(config) as client:
        began = time.monotonic()
        found = client.send(steps_of(kind, records, config, job, job_id), tries=1)
        seconds = time.monotonic() - began
        if not found:
            raise AssertionError(f"Ray tells nothing of {job_id}")
        return seconds, client.requests


def steps_of(kind: str, records: SharedRecords, config: ServiceConfig, job: dict[str, Any], job_id: str) -> Steps:
    """Return the look at a job, whose result is what is told of it."""
    if kind == "failed":
        failure_look = FailureLook(config.service, job, time.time())
        yield from failure_look.steps()
        return failure_look.groups
    if kind == "waits":
        return (yield from look_at_wait(records, job_id, job, str))
    silence = yield from look_at_silence(
        records, job, counts=True, before=None, tells=True, takes_stacks=None, redact=str
    )
    return silence.parts
