"""Many jobs that wait or are silent, followed with and without the looks at why: what these cost Ray, and other jobs.

    python -m benchmarks waits

A real Ray has jobs that are PENDING, jobs that run and are silent while their tasks wait, or jobs with 200 tasks that
run and are silent. The followers run in a separate process and event loop, as in a triggerer, together with a few of
jobs that print ten lines per second, each with the time. There is a follower for each PENDING job; several follow the
same silent one, which is the same for Ray as if each had its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.run.job_watch import JobWatch
from airflow_provider_rayagent.run.silence_watch import StallSettings
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
from benchmarks.measure import Line, Target
from benchmarks.plain_ray import PROGRAM, head_processes
from benchmarks.processes import ROOT, cpu_seconds
from tests.stack.agent import local_agent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.stack.agent import LocalAgent

PRINTING, PRINTING_FOLLOWERS = 4, 20
SILENT_JOBS = 4
WARM_UP_SECONDS = 30
"""So long a hundred followers take to begin, at a dashboard that has just started: lines are late meanwhile."""
SECONDS = 90
"""The first look at a job whose tasks wait is after a minute."""
STALLS = StallSettings(after=70.0)
"""So soon that its two looks are among these seconds."""
WAITING = """
import ray
ray.init(log_to_driver=False)
@ray.remote(resources={"unicorn": 1})
def shard(number): pass
ray.get([shard.remote(number) for number in range(100)])
"""
RUNNING = """
import asyncio, ray
ray.init(log_to_driver=False)
@ray.remote(num_cpus=0, max_concurrency=200)
class Server:
    async def serve(self, number): await asyncio.sleep(3600)
server = Server.remote()
ray.get([server.serve.remote(number) for number in range(200)])
"""
SILENT = {"waiting for resources": WAITING, "running": RUNNING}


def measure(*, short: bool) -> Iterator[Line]:
    """Follow jobs that wait."""
    counts, seconds = ((20,), 20) if short else ((100, 1_000), SECONDS)
    for count in counts:
        for kind in ("PENDING", *SILENT):
            with local_agent("--num-cpus", "12") as agent:
                yield from follow(agent, kind, count, seconds)


def follow(agent: LocalAgent, kind: str, count: int, seconds: int) -> Iterator[Line]:
    """Follow jobs for some time, without looks and with them; yield the measurements as lines of the table."""
    printing = [agent.submit(f"python -u - <<'END'\n{PROGRAM.format(earlier=0)}\nEND") for _ in range(PRINTING)]
    if kind == "PENDING":
        waiting = [agent.submit("true", entrypoint_resources={"unicorn": 1}) for _ in range(count)]
    else:
        waiting = [agent.submit(f"python - <<'END'\n{SILENT[kind]}\nEND") for _ in range(SILENT_JOBS)]
    for job_id in [*printing, *(waiting if kind in SILENT else ())]:
        agent.wait(job_id, ["RUNNING"])
    processes = head_processes(psutil.Process(agent.pid))
    token = Path(agent.ray_token_file).read_text().strip() if agent.ray_token_file else ""
    plan = {"url": agent.ray_address, "token": token, "seconds": seconds, "count": count}
    found = []
    for looks in (True, False):
        before, began = cpu_seconds(processes), time.monotonic()
        command = [sys.executable, "-m", "benchmarks.waits"]
        text = json.dumps({**plan, "printing": printing, "waiting": waiting, "looks": looks})
        output = subprocess.run(command, cwd=ROOT, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout
        found.append({**json.loads(output), "cores": (cpu_seconds(processes) - before) / (time.monotonic() - began)})
    ours, theirs = found
    # Ray's own streams are late where it has 1,000 of them or of PENDING jobs, also to a client that follows one job.
    delay = Target(maximum=3, of="figure") if count < 1_000 else Target(maximum=1.5)
    what = f"{count:,} silent jobs, {kind}" if kind in SILENT else f"{count:,} jobs that are {kind}"
    for key, name, unit, target in (
        ("cores", "CPU of the dashboard and the node's agent", "cores", Target(maximum=2)),
        ("delay", "delay of a line of another job, 99 %", "s", delay),
        ("told", "lines about it", "lines", None),
    ):
        baseline = "without looks"
        yield Line("waits", f"{what}: {name}", unit, [ours[key]], [theirs[key]], baseline=baseline, target=target)


async def run(plan: dict[str, Any]) -> dict[str, float]:
    """Follow jobs; return the delay of the lines in seconds, and how many reasons were told."""
    delays: list[float] = []
    told = 0
    # Older lines are read at the beginning, and say nothing of how late a line arrives.
    since = time.time() + WARM_UP_SECONDS
    config = read_config(host=plan["url"], token=plan["token"], extra={"service": "ray"})

    async def follow_one(agent: AsyncServiceClient, jobs: Sequence[str], number: int, count: int) -> None:
        nonlocal told
        await asyncio.sleep(number / count)
        job_id = JobId(jobs[number % len(jobs)])
        follower = AsyncFollower(agent, job_id, TailSettings())
        watch = JobWatch(config, job_id, STALLS) if plan["looks"] else None
        async with contextlib.aclosing(follower.items()) as lists:
            async for items in lists:
                now = time.time()
                printed = (float(line[3:]) for line in lines_in(items) if line.startswith("at "))
                delays.extend(now - at for at in printed if at > since)
                told += len(watch.records(follower)) if watch else 0

    async with AsyncServiceClient(config) as agent:
        groups = ((plan["waiting"], plan["count"]), (plan["printing"], PRINTING_FOLLOWERS))
        tasks = [
            asyncio.create_task(follow_one(agent, jobs, number, count))
            for jobs, count in groups
            for number in range(count)
        ]
        await asyncio.sleep(WARM_UP_SECONDS + plan["seconds"])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    delays.sort()
    return {"delay": delays[int(0.99 * len(delays))], "told": float(told)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
