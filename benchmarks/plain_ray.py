"""Jobs followed over plain Ray: how late their lines arrive, and what that costs Ray's head and its other clients.

    python -m benchmarks plain_ray

A real Ray runs a few jobs that print ten lines per second, each line with the time. The tails run in a separate process
and event loop, as in a triggerer; several follow the same job, which is the same for Ray as if each had its own. The
bystander lists all jobs five times per second, as ``ray job list`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import requests

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
from benchmarks.measure import Line
from benchmarks.processes import ROOT, cpu_seconds
from tests.stack.agent import local_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.agent import LocalAgent

JOBS = 4
SECONDS = 30
WARM_UP_SECONDS = 10
"""At first, all tails read the whole log, which says nothing of how late a line arrives."""
REQUEST_INTERVAL = 0.2
PATIENCE = 10.0
PROGRAM = """
import sys, time
sys.stdout.write(("x" * 99 + "\\n") * {earlier})
while True:
    print("at", time.time(), flush=True)
    time.sleep(0.1)
"""


def measure(*, short: bool) -> Iterator[Line]:
    """Follow jobs with short and with long logs."""
    cases = ((0, 1), (10, 10)) if short else ((0, 0), (0, 1), (0, 100), (0, 1_000), (1, 100), (10, 100))
    for megabytes, tails in cases:
        with local_agent("--num-cpus", "8") as agent:
            yield from follow(agent, tails, megabytes)


def follow(agent: LocalAgent, tails: int, megabytes: int) -> Iterator[Line]:
    """Follow jobs for some time; yield the measurements as lines of the table."""
    program = PROGRAM.format(earlier=megabytes * 10_000)
    jobs = [agent.submit(f"python -u - <<'END'\n{program}\nEND") for _ in range(JOBS)]
    for job_id in jobs:
        agent.wait(job_id, ["RUNNING"])
    token = Path(agent.ray_token_file).read_text().strip() if agent.ray_token_file else ""
    latencies: list[float] = []
    over = threading.Event()
    bystander = threading.Thread(target=act_as_bystander, args=(agent.ray_address, token, latencies, over))
    processes = head_processes(psutil.Process(agent.pid))
    bystander.start()
    before, began = cpu_seconds(processes), time.monotonic()
    command = [sys.executable, "-m", "benchmarks.plain_ray", agent.ray_address, token, str(tails), *jobs]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    cores = (cpu_seconds(processes) - before) / (time.monotonic() - began)
    over.set()
    bystander.join()
    result = json.loads(output)
    what = f"{tails:,} jobs with {megabytes} MB of log" if tails else "nothing followed"
    if tails:
        delays = sorted(result["delays"])
        yield Line("plain_ray", f"{what}: delay of a line, median", "s", [statistics.median(delays)])
        yield Line("plain_ray", f"{what}: delay of a line, 99 %", "s", [delays[int(0.99 * len(delays))]])
        yield Line("plain_ray", f"{what}: requests", "per s", [result["requests"] / SECONDS])
    yield Line("plain_ray", f"{what}: CPU of the dashboard and the node's agent", "cores", [cores])
    yield Line("plain_ray", f"{what}: bystander, median", "ms", [1_000 * statistics.median(latencies)])
    yield Line("plain_ray", f"{what}: bystander, slowest", "ms", [1_000 * max(latencies)])


def act_as_bystander(url: str, token: str, latencies: list[float], over: threading.Event) -> None:
    """List jobs; a request that fails counts as long as it took."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        while not over.wait(REQUEST_INTERVAL):
            began = time.monotonic()
            with contextlib.suppress(requests.RequestException):
                session.get(f"{url}/api/jobs/", timeout=PATIENCE)
            latencies.append(time.monotonic() - began)


def head_processes(agent: psutil.Process) -> list[psutil.Process]:
    """Return the processes of Ray's dashboard and of the node's agent."""
    found = []
    for each in agent.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = " ".join(each.cmdline())
            if "dashboard" in words or "Head" in words:
                found.append(each)
    return found


class CountingAgent(AsyncServiceClient):
    """Counts requests."""

    requests = 0

    def opened(self, *arguments: Any, **options: Any) -> Any:
        """Count a request, and send it."""
        self.requests += 1
        return super().opened(*arguments, **options)


async def run_tails(url: str, token: str, count: int, jobs: list[str]) -> dict[str, Any]:
    """Follow jobs; return the delays of their lines in seconds, and the number of requests."""
    delays: list[float] = []
    began = time.monotonic()

    async def run_tail(agent: AsyncServiceClient, number: int) -> None:
        await asyncio.sleep(number / count)
        follower = AsyncFollower(agent, JobId(jobs[number % len(jobs)]), TailSettings())
        async with contextlib.aclosing(follower.items()) as lists:
            async for items in lists:
                now = time.time()
                if time.monotonic() - began > WARM_UP_SECONDS:
                    delays.extend(now - float(line[3:]) for line in lines_in(items) if line.startswith("at "))

    async with CountingAgent(read_config(host=url, token=token, extra={"service": "ray"})) as agent:
        tasks = [asyncio.create_task(run_tail(agent, number)) for number in range(count)]
        await asyncio.sleep(WARM_UP_SECONDS)
        agent.requests = 0
        await asyncio.sleep(SECONDS)
        sent = agent.requests
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {"delays": delays, "requests": sent}


if __name__ == "__main__":
    _, address, ray_token, how_many, *followed = sys.argv
    print(json.dumps(asyncio.run(run_tails(address, ray_token, int(how_many), followed))))
