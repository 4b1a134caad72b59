"""How long Airflow's own API takes to answer while users look at the Ray page.

    python -m benchmarks page

One API server shows the jobs of a scripted agent in a process of its own; the viewers are in another one. The figure is
the 99th percentile of the time for ``GET /api/v2/version``, which is due every :data:`PAUSE` seconds, whether or not
the request before has been answered, as those of other users would be.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import requests

from benchmarks.feeder import LINE_BYTES, job_of, numbered_line
from benchmarks.measure import Line, Target
from benchmarks.processes import agent_process
from tests.scripted import Job, ScriptedAgent
from tests.stack.api_server import COOKIE, ApiServer, api_server, settings_of_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONNECTION = "ray"
USERS = [f"user{number}" for number in range(10)]
PAUSE = 0.05
SECONDS = 12.0
"""How long each load is measured, from its beginning on."""
TARGET_MILLISECONDS = 50.0
ARRIVING_SECONDS = 6.0
"""In which all views are opened, one after the other."""
LONG_LOG_BYTES = 90_000_000
LONG_LOG = f"running-{LONG_LOG_BYTES // LINE_BYTES}-100"
JOBS = 10_000
VIEWERS = 100
LINES_PER_SECOND = 200
VARIABLES = 3_000
PASSWORD = "of-a-benchmark"


class Load(NamedTuple):
    """What the viewers have open.

    :param name: for the table.
    :param agent: which of :data:`AGENTS` has the jobs.
    :param routes: below the connection, each with the seconds after which it is requested again.
    :param viewers: number of those who have all routes open.
    """

    name: str
    agent: str
    routes: Sequence[tuple[str, float]]
    viewers: int = 1


def _log(job_id: str) -> tuple[str, float]:
    return f"jobs/{job_id}/log", 2.0


LOADS = (
    Load("one log of 90 MB", "logs", [_log(f"{LONG_LOG}-0")]),
    Load("ten logs of 90 MB", "logs", [_log(f"{LONG_LOG}-{number}") for number in range(10)]),
    Load(f"a list of {JOBS:,} jobs", "many", [("jobs", 3.0), ("cluster", 5.0)]),
    Load(f"{VIEWERS} viewers of a log that grows", "grows", [_log("grows")], VIEWERS),
    Load(f"20,000 lines of a job with {VARIABLES:,} masked variables", "secrets", [_log("secret-0")]),
    Load(f"a list of 50 jobs with {VARIABLES:,} masked variables each", "secrets", [("jobs", 3.0)]),
)


def measure(*, short: bool) -> Iterator[Line]:
    """Compare the API server under each load with one that nobody uses."""
    for load in LOADS:
        with agent_process("page", "serve", load.agent) as agent:
            # Each time with a new API server, which does not follow a log yet.
            measured = [_milliseconds(load, agent.url) for _ in range(1 if short else 3)]
        idle, busy = zip(*measured, strict=True)
        yield Line(
            "page",
            f"Airflow's own answers, 99th percentile, {load.name}",
            "ms",
            busy,
            idle,
            "nobody on the page",
            Target(maximum=TARGET_MILLISECONDS, of="figure"),
        )


def _milliseconds(load: Load, agent_url: str) -> tuple[float, float]:
    """Return the 99th percentiles of the time for an answer, without the load and with it."""
    connections = {CONNECTION: {"conn_type": "rayagent", "host": agent_url}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings_of_users(folder, dict.fromkeys(USERS, "admin"), PASSWORD)
        server = stack.enter_context(api_server(connections=connections, settings=settings))
        base = f"{server.url}/rayagent/api/connections/{CONNECTION}"
        tokens = [server.sign_in(name, PASSWORD) for name in USERS]
        server.request("GET", f"rayagent/api/connections/{CONNECTION}/cluster", tokens[0]).raise_for_status()
        idle = _percentile(server)
        opened = [
            (f"{base}/{route}", tokens[number % len(tokens)], interval)
            for number in range(load.viewers)
            for route, interval in load.routes
        ]
        with agent_process("page", "view", json.dumps(opened)):
            return idle, _percentile(server)


def _percentile(server: ApiServer) -> float:
    """Return the 99th percentile of the time for an answer, in milliseconds."""
    found = []
    with requests.Session() as session:
        session.trust_env = False
        due = time.monotonic()
        end = due + SECONDS
        while due < end:
            time.sleep(max(due - time.monotonic(), 0.0))
            session.get(f"{server.url}/api/v2/version", timeout=60).raise_for_status()
            found.append(1000 * (time.monotonic() - due))
            due += PAUSE
    return statistics.quantiles(found, n=100)[98]


def _serve(name: str) -> None:
    """Run an agent until standard input closes."""
    with ScriptedAgent(*AGENTS[name]()) as agent:
        print(agent.url, flush=True)
        if name == "grows":
            threading.Thread(target=_grow, args=(agent.jobs["grows"],), daemon=True).start()
        sys.stdin.read()


def _grow(job: Job) -> None:
    number = 0
    while True:
        job.grow("".join(numbered_line(number + more) for more in range(LINES_PER_SECOND // 10)))
        number += LINES_PER_SECOND // 10
        time.sleep(0.1)


def _many_jobs() -> list[Job]:
    return [
        Job(status="SUCCEEDED", job_id=f"job-{number}", entrypoint="python train.py --epochs 7")
        for number in range(JOBS)
    ]


def _jobs_with_secrets() -> list[Job]:
    jobs = []
    text = "".join(numbered_line(number) for number in range(20_000))
    for number in range(50):
        variables = {f"VARIABLE_{each}": f"value-{each:05}-{number}-abcdefgh" for each in range(VARIABLES)}
        details = {
            "runtime_env": {"env_vars": variables},
            "metadata": {"airflow_masked_env_vars": json.dumps(list(variables))},
        }
        jobs.append(Job(text, "RUNNING", f"secret-{number}", details=details))
    return jobs


AGENTS: dict[str, Callable[[], list[Job]]] = {
    "logs": lambda: [job_of(f"{LONG_LOG}-{number}") for number in range(10)],
    "grows": lambda: [Job(status="RUNNING", job_id="grows")],
    "many": _many_jobs,
    "secrets": _jobs_with_secrets,
}


async def _view(opened: Sequence[tuple[str, str, float]]) -> None:
    """Request URLs, each with a user's token and the seconds between two requests, until standard input closes."""
    print("begins", flush=True)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=None, limits=limits) as client:
        views = [
            asyncio.create_task(_look(client, ARRIVING_SECONDS * number / len(opened), *each))
            for number, each in enumerate(opened)
        ]
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        for ended in (await asyncio.wait((*views, end), return_when=asyncio.FIRST_COMPLETED))[0]:
            ended.result()
        for view in views:
            view.cancel()


async def _look(client: httpx.AsyncClient, delay: float, url: str, token: str, interval: float) -> None:
    await asyncio.sleep(delay)
    after = ""
    while True:
        query = {"after": after} if url.endswith("/log") else {}
        answer = await client.get(url, params=query, headers={"Cookie": f"{COOKIE}={token}"})
        answer.raise_for_status()
        if query:
            part = answer.json()
            after = part["after"]
            if part["more"]:
                continue
        await asyncio.sleep(interval)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2])
    else:
        asyncio.run(_view(json.loads(sys.argv[2])))
