"""Many followers of a job's log on the local agent, and their effect on another client (the bystander).

    python -m benchmarks local_agent

A real Ray runs the jobs. The followers run in a separate process and read server-sent events; the bystander requests
the status of another job five times per second. The tails are the connections of Ray's job head to the agent of the
job's node: with a hundred of them, all requests for jobs hang.
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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import requests

from benchmarks.measure import Line, Target
from benchmarks.processes import ROOT
from tests.stack.agent import local_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.agent import LocalAgent

LIVE_SECONDS = 20
LONG_BYTES = 200_000_000
LONG_LOG = f"python -c \"import sys; [sys.stdout.write('x' * 99 + chr(10)) for _ in range({LONG_BYTES // 100})]\""
REQUEST_INTERVAL = 0.2
"""Seconds between two requests of the bystander."""
PATIENCE = 10.0
"""The bystander's timeout in seconds, which is typical of clients."""
LOG_PATIENCE = 300.0
"""Seconds within which followers of an ended job must receive its log."""


@dataclass
class Measurements:
    """Measurements while a job was followed.

    :param latencies: seconds of the bystander's successful requests.
    :param failures: number of the bystander's failed requests.
    :param memory: maximum memory of the agent in bytes.
    :param tails: maximum number of tails of Ray's job head.
    :param complete: number of followers that received the whole log and ``complete``.
    :param statuses: number of followers by HTTP status; ``0``: no response.
    :param received: minimum and maximum number of bytes that a follower received.
    """

    followers: int
    latencies: list[float] = field(default_factory=list)
    failures: int = 0
    memory: int = 0
    tails: int = 0
    complete: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    received: tuple[int, int] = (0, 0)
    seconds: float = 0.0


def measure(*, short: bool) -> Iterator[Line]:
    """Follow a running job, and an ended job with a long log."""
    for followers in (1, 20) if short else (1, 150):
        with local_agent("--num-cpus", "4") as agent:
            yield from lines("a running job", follow_running(agent, followers))
    for followers in (1,) if short else (1, 5, 150):
        with local_agent("--num-cpus", "4") as agent:
            yield from lines("a log of 200 MB", follow_ended(agent, followers))


def lines(what: str, measured: Measurements) -> Iterator[Line]:
    """Yield the measurements as lines of the table."""
    what = f"{measured.followers:,} followers of {what}"
    asked = len(measured.latencies) + measured.failures
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(measured.statuses.items()))
    least, most = (each / 1e6 for each in measured.received)
    note = f"{measured.complete} complete logs, {least:.1f} to {most:.1f} MB each; {answers}; {measured.seconds:.0f} s"
    latencies = [1_000 * each for each in measured.latencies] or [float("inf")]
    yield Line("local_agent", f"{what}: bystander, median", "ms", [statistics.median(latencies)])
    yield Line("local_agent", f"{what}: bystander, slowest", "ms", [max(latencies)])
    failed = Target(maximum=0.0, of="figure")
    yield Line("local_agent", f"{what}: bystander, failures", f"of {asked}", [measured.failures], target=failed)
    yield Line("local_agent", f"{what}: memory of the agent", "MB", [measured.memory / 1e6])
    yield Line("local_agent", f"{what}: tails in Ray's job head", "", [measured.tails], note=note)


def follow_running(agent: LocalAgent, followers: int) -> Measurements:
    """Follow a job that prints ten lines per second and is still running at the end."""
    job_id = agent.submit(printing(LIVE_SECONDS + 300))
    agent.wait(job_id, statuses=["RUNNING"])
    return follow(agent, job_id, followers, seconds=LIVE_SECONDS)


def printing(seconds: int) -> str:
    """Return a command that prints ten lines per second."""
    return f"python -u -c \"import time; [(print('line', n), time.sleep(0.1)) for n in range({seconds * 10})]\""


def follow_ended(agent: LocalAgent, followers: int) -> Measurements:
    """Follow a job that has ended."""
    job_id = agent.submit(LONG_LOG)
    agent.wait(job_id)
    return follow(agent, job_id, followers, seconds=LOG_PATIENCE)


def follow(agent: LocalAgent, job_id: str, followers: int, seconds: float) -> Measurements:
    """Run followers until they have the whole log, or for a number of seconds; return the measurements."""
    bystander = agent.wait(agent.submit("true"))["submission_id"]
    measured = Measurements(followers)
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.local_agent", agent.url, agent.token, job_id]
    with subprocess.Popen(
        [*command, str(followers), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        over = threading.Event()
        threads = [
            threading.Thread(target=act_as_bystander, args=(agent, bystander, measured, over)),
            threading.Thread(target=record_usage, args=(agent, job_id, measured, over)),
        ]
        for each in threads:
            each.start()
        output, _ = process.communicate()
        over.set()
        for each in threads:
            each.join()
    result = json.loads(output)
    measured.complete, measured.statuses, measured.seconds = (
        result["complete"],
        result["statuses"],
        time.monotonic() - began,
    )
    measured.received = min(result["received"]), max(result["received"])
    return measured


def act_as_bystander(agent: LocalAgent, job_id: str, measured: Measurements, over: threading.Event) -> None:
    """Act as the bystander."""
    while not over.wait(REQUEST_INTERVAL):
        began = time.monotonic()
        try:
            answer = agent.request("GET", f"jobs/{job_id}/", timeout=PATIENCE)
            answer.raise_for_status()
        except requests.RequestException:
            measured.failures += 1
        else:
            measured.latencies.append(time.monotonic() - began)


def record_usage(agent: LocalAgent, job_id: str, measured: Measurements, over: threading.Event) -> None:
    """Record the agent's memory and Ray's tails."""
    process = psutil.Process(agent.pid)
    head = job_head(process)
    node_agent = None
    while not over.wait(REQUEST_INTERVAL):
        measured.memory = max(measured.memory, process.memory_info().rss)
        if node_agent is None:
            with contextlib.suppress(requests.RequestException):
                job: dict[str, Any] = agent.request("GET", f"jobs/{job_id}/", timeout=PATIENCE).json()
                node_agent = urlsplit(job.get("driver_agent_http_address") or "").port
        held = [each for each in head.net_connections() if each.raddr and each.raddr.port == node_agent]
        measured.tails = max(measured.tails, len(held))


def job_head(agent: psutil.Process) -> psutil.Process:
    """Return the process of Ray's dashboard that handles requests for jobs."""
    for each in agent.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "JobHead" in " ".join(each.cmdline()):
                return each
    raise LookupError("Ray has no job head")


async def run_followers(url: str, token: str, job_id: str, count: int, seconds: float) -> dict[str, Any]:
    """Follow a job ``count`` times, at most for a number of seconds; return the responses."""
    statuses: dict[str, int] = {}
    received = [0] * count
    complete = 0

    async def run_follower(number: int) -> None:
        nonlocal complete
        parts = urlsplit(url)
        answered = "0"
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            path = f"/jobs/{job_id}/logs/stream/"
            request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {token}\r\n\r\n"
            writer.write(request.encode())
            answered = (await reader.readline()).split(b" ", 2)[1].decode()
            last = b""
            while data := await reader.read(1 << 20):
                received[number] += len(data)
                last = (last + data)[-200:]
                if b'"type": "complete"' in last:
                    complete += 1
                    return
        except (OSError, IndexError):
            pass
        finally:
            statuses[answered] = statuses.get(answered, 0) + 1

    tasks = [asyncio.create_task(run_follower(number)) for number in range(count)]
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return {"statuses": statuses, "complete": complete, "received": received}


if __name__ == "__main__":
    _, address, agent_token, followed, how_many, patience = sys.argv
    print(json.dumps(asyncio.run(run_followers(address, agent_token, followed, int(how_many), float(patience)))))
