"""Jobs with logs that Ray's own log tail cannot handle, followed on a real Ray: every line once, with every driver."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import requests

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import StreamSource, TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.tail.items import Notice, lines_in
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.aio_driver import AsyncFollower
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from tests.stack.job_logs import AFTER_RAY, lines_of_program
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.tail.items import Item
    from airflow_provider_rayagent.transport.tail_driver import Follower
    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

POLL_INTERVAL = 1.0
MANY = 150_000
GROWN = 20_000
"""So many that over Ray only the last lines are read from then on."""
LONG = 5_000_000

PROGRAMS = {
    "partial": "w('a'); s(2); w('b\\n\\n  c\\t\\n'); s(2); w('without a newline')",
    "progress": "from tqdm import tqdm; [s(0.05) for _ in tqdm(range(60), file=sys.stdout)]; w('\\ndone\\n')",
    "split": "b(b'50%\\r'); s(3); b(b'\\n'); s(3); b(b'\\r\\n100%\\r'); s(3); b(b'\\n\\ndone\\n')",
    "bytes": "[(b(bytes([x])), s(0.4)) for x in 'é漢😀\\n'.encode()]; w('end\\n')",
    "silent": "w('before\\n'); s(30); w('after\\n')",
    "many": f"w(''.join(f'line {{n}}\\n' for n in range({MANY})))",
    "grows": f"w(''.join(f'line {{n}}\\n' for n in range({GROWN})))\nfor n in range(80): w(f'more {{n}}\\n'); s(0.1)",
    "long": f"w('x' * {LONG} + '\\n' + 'short\\n'); s(3); w('y' * {LONG}); w('\\nend\\n')",
    "identical": "[(w('same\\n' * 7), s(0.3)) for _ in range(20)]",
    "stopped": "w('waits\\n'); s(3600)",
    "failed": "w('about to fail\\n'); raise SystemExit(3)",
    "invalid": "b(b'good\\n'); s(15); b(b'\\xff\\xfe\\n'); s(4); w('unreadable\\n')",
}
PRINTED = {
    "partial": ["ab", "", "  c\t", "without a newline"],
    "bytes": ["é漢😀", "end"],
    "silent": ["before", "after"],
    "many": [f"line {number}" for number in range(MANY)],
    "grows": [*(f"line {number}" for number in range(GROWN)), *(f"more {number}" for number in range(80))],
    "long": ["x" * LONG, "short", "y" * LONG, "end"],
    "identical": ["same"] * 140,
    "stopped": ["waits"],
    "failed": ["about to fail"],
    "invalid": ["good", "\ufffd\ufffd", "unreadable"],
}
PREAMBLE = f"""{AFTER_RAY}
import sys
s = time.sleep
def w(text): b(text.encode())
def b(data): sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
"""


@dataclass
class Followed:
    """What a driver returned for one job."""

    lines: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    end: End | None = None
    is_whole: bool = False
    job: dict[str, Any] = field(default_factory=dict)
    ended_at: float = 0.0

    def tell(self, items: list[Item]) -> None:
        self.lines += lines_in(items)
        self.notices += [item.text for item in items if isinstance(item, Notice)]

    def finish(self, following: Follower) -> Followed:
        self.end, self.is_whole, self.job = following.end, following.log_is_whole, dict(following.job or {})
        self.ended_at = time.time()
        return self


def config_of_agent(agent: LocalAgent) -> ServiceConfig:
    return read_config(host=agent.url, token=agent.token)


def config_of_ray(agent: LocalAgent) -> ServiceConfig:
    token = Path(agent.ray_token_file).read_text(encoding="utf-8").strip() if agent.ray_token_file else None
    return read_config(host=agent.ray_address, token=token, extra={"service": "ray"})


def settings(sources: tuple[StreamSource, ...]) -> TailSettings:
    return TailSettings(sources=sources, poll_interval=POLL_INTERVAL, max_line_length=2 * LONG)


def follow_blocking(
    config: ServiceConfig, job_id: str, sources: tuple[StreamSource, ...], followed: Followed | None = None
) -> Followed:
    """Follow a job to its end; ``followed`` has what was received so far."""
    followed = followed or Followed()
    with BlockingServiceClient(config) as agent:
        follower = BlockingFollower(agent, JobId(job_id), settings(sources))
        for items in follower.blocking_items():
            followed.tell(items)
        return followed.finish(follower)


def follow_async(
    config: ServiceConfig, job_id: str, sources: tuple[StreamSource, ...], followed: Followed | None = None
) -> Followed:
    """Do the same with asyncio."""
    followed = followed or Followed()

    async def follow() -> Followed:
        async with AsyncServiceClient(config) as agent:
            follower = AsyncFollower(agent, JobId(job_id), settings(sources))
            async with aclosing(follower.items()) as found:
                async for items in found:
                    followed.tell(items)
            return followed.finish(follower)

    return asyncio.run(follow())


class Follow(Protocol):
    """:func:`follow_blocking` or :func:`follow_async`."""

    def __call__(
        self, config: ServiceConfig, job_id: str, sources: tuple[StreamSource, ...], followed: Followed | None = None
    ) -> Followed: ...


@dataclass(frozen=True)
class Driver:
    """What follows a job.

    :param config: returns the connection, given the local agent and its Ray.
    """

    follow: Follow
    config: Callable[[LocalAgent], ServiceConfig]
    sources: tuple[StreamSource, ...]


DRIVERS = {
    "blocking-websocket": Driver(follow_blocking, config_of_agent, ("websocket",)),
    "blocking-http": Driver(follow_blocking, config_of_agent, ("http",)),
    "async-websocket": Driver(follow_async, config_of_agent, ("websocket",)),
    "async-http": Driver(follow_async, config_of_agent, ("http",)),
    "blocking-ray": Driver(follow_blocking, config_of_ray, ("websocket", "http")),
    "async-ray": Driver(follow_async, config_of_ray, ("websocket", "http")),
}
OVER_RAY = ("blocking-ray", "async-ray")
Results = dict[tuple[str, str], Followed]


def log_file(agent: LocalAgent, job: dict[str, Any]) -> str:
    """Return the job's log file, as Ray's state API returns it."""
    query = {"node_id": job["driver_node_id"], "filename": f"job-driver-{job['submission_id']}.log", "lines": "-1"}
    url = f"{agent.ray_address}/api/v0/logs/file"
    response = requests.get(url, query, headers=dict(config_of_ray(agent).headers), timeout=PATIENCE)
    response.raise_for_status()
    return response.content.decode("utf-8", "replace")


def entrypoint(directory: Path, name: str) -> str:
    program = directory / f"{name}.py"
    program.write_text(PREAMBLE + PROGRAMS[name] + "\n", encoding="utf-8")
    return f"python -u {program}"


def stop_when_it_waits(agent: LocalAgent, job_id: str) -> None:
    path = f"jobs/{job_id}/logs/"
    wait_until(lambda: agent.request("GET", path).text.count("waits\n") or None, f"{job_id} does not wait")
    agent.request("POST", f"jobs/{job_id}/stop/")


@pytest.fixture(scope="module")
def results(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of all jobs, each followed by all drivers at the same time."""
    directory = tmp_path_factory.mktemp("programs")
    jobs = {name: agent.submit(entrypoint(directory, name)) for name in PROGRAMS}
    jobs["environment"] = agent.submit("echo never", runtime_env={"working_dir": "https://127.0.0.1:1/nothing.zip"})
    with ThreadPoolExecutor(len(jobs) * len(DRIVERS)) as pool:
        futures = {
            (name, key): pool.submit(driver.follow, driver.config(agent), job_id, driver.sources)
            for name, job_id in jobs.items()
            for key, driver in DRIVERS.items()
        }
        stop_when_it_waits(agent, jobs["stopped"])
        return {key: future.result(timeout=PATIENCE) for key, future in futures.items()}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_line_is_received_once(results: Results, agent: LocalAgent, name: str, driver: str) -> None:
    followed = results[name, driver]
    whole = log_file(agent, followed.job)
    if driver not in OVER_RAY:
        # The agent's log has them as Ray's own live log does.
        whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        assert agent.request("GET", f"jobs/{followed.job['submission_id']}/logs/").content.decode() == whole
    expected = whole.split("\n")

    assert followed.end is End.JOB_ENDED
    assert followed.is_whole
    assert followed.notices == []
    assert followed.lines == (expected[:-1] if expected[-1] == "" else expected)
    if name in PRINTED:
        assert lines_of_program(followed.lines, followed.job) == PRINTED[name]


ROTATES = f"""{PREAMBLE}
import os, shutil
path = os.readlink("/proc/self/fd/1")
def rotate(number):
    shutil.copyfile(path, f"{{path}}.{{number}}")
    os.truncate(path, 0)
w("".join(f"before {{number}}\\n" for number in range({GROWN})))
s(6)
rotate(1)
w("".join(f"between {{number}}\\n" for number in range(50)))
rotate(2)
for number in range(200):
    w(f"after {{number}}\\n")
    s(0.02)
"""
"""It copies and truncates its log as logrotate does, twice between two readings."""


def test_a_log_that_is_rotated_is_told_once_and_no_line_comes_twice(agent: LocalAgent, tmp_path: Path) -> None:
    program = tmp_path / "rotates.py"
    program.write_text(ROTATES, encoding="utf-8")
    job_id = agent.submit(f"python -u {program}")
    with ThreadPoolExecutor(len(DRIVERS)) as pool:
        futures = {
            name: pool.submit(driver.follow, driver.config(agent), job_id, driver.sources)
            for name, driver in DRIVERS.items()
        }
        followed = {name: future.result(timeout=PATIENCE) for name, future in futures.items()}
    expected = [f"{part} {number}" for part, count in (("before", GROWN), ("after", 200)) for number in range(count)]
    for name, each in followed.items():
        lines = lines_of_program(each.lines, each.job)
        # What was written and rotated away between two readings is in the parts only.
        assert [line for line in lines if not line.startswith("between")] == expected, name
        # The agent's stream ends with an error event that says so, too.
        assert sum(notice.startswith("RA-303: ") for notice in each.notices) == 1, (name, each.notices)
        assert each.is_whole, name


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("name", "status"), [("failed", "FAILED"), ("stopped", "STOPPED"), ("many", "SUCCEEDED"), ("invalid", "SUCCEEDED")]
)
def test_outcome_matches_status(results: Results, name: str, status: str, driver: str) -> None:
    assert results[name, driver].job["status"] == status


@pytest.mark.parametrize("driver", DRIVERS)
def test_failed_runtime_environment_has_message(results: Results, driver: str) -> None:
    followed = results["environment", driver]

    assert followed.job["status"] == "FAILED"
    assert "runtime" in followed.job["message"].lower()
