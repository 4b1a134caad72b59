"""Time until the next new line when a stream starts from the beginning, and a tail skips the lines it forwarded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import websocket

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.cursor import Cursor, Replay
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from benchmarks.feeder import BLOCK, BLOCK_LINES, feeder
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES = 1_000_000
SHORT_LINES = 200_000
LINES_A_MESSAGE = 10


def measure(*, short: bool) -> Iterator[Line]:
    """Measure the seconds from opening the stream to the first line that was not forwarded before."""
    lines, rounds = (SHORT_LINES, 3) if short else (LINES, 5)
    names = list(CLIENTS)
    with feeder([job_id(lines)]) as url:
        ours, *others = run_alternately(rounds, *(partial(resume, name, url, lines) for name in names))
    for name, theirs in zip(names[1:], others, strict=True):
        target = Target(maximum=2.0, expected=12.0) if name == BARE else None
        yield Line("resume", f"hook, WebSocket, first new line after {lines:,}", "s", ours, theirs, name, target)


def job_id(lines: int) -> str:
    """Return the id of a job with a number of forwarded lines, and a block of new ones."""
    return f"running-{lines + BLOCK_LINES}-{LINES_A_MESSAGE}"


def resume(who: str, url: str, lines: int) -> float:
    """Run one client in a separate process; return its seconds."""
    command = [sys.executable, "-m", "benchmarks.resume", who, url, str(lines)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout))


def ours(url: str, lines: int) -> float:
    """Follow from a position after ``lines`` lines."""
    cursor = Cursor(joining="raw")
    replay = Replay(cursor)
    for _ in range(lines // BLOCK_LINES):
        replay.advance("".join(BLOCK), BLOCK_LINES)
    with BlockingServiceClient(read_config(host=url, token="t")) as agent:
        follower = BlockingFollower(agent, JobId(job_id(lines)), TailSettings(sources=("websocket",)), cursor=cursor)
        begun = time.perf_counter()
        items = follower.blocking_items()
        while not lines_in(next(items)):
            pass
        return time.perf_counter() - begun


def _opened(url: str, lines: int) -> websocket.WebSocket:
    connection = websocket.WebSocket(skip_utf8_validation=True)
    connection.connect(f"{url.replace('http', 'ws', 1)}jobs/{job_id(lines)}/logs/", header=["Authorization: t"])
    return connection


def bare(url: str, lines: int) -> float:
    """Receive the same number of bytes and discard them."""
    begun = time.perf_counter()
    connection = _opened(url, lines)
    missing = lines // LINES_A_MESSAGE * len(json.dumps({"type": "log", "message": "".join(BLOCK[:LINES_A_MESSAGE])}))
    assert connection.sock is not None
    while missing > 0:
        missing -= len(connection.sock.recv(65_536))
    return time.perf_counter() - begun


def library(url: str, lines: int) -> float:
    """Receive the same number of messages with ``websocket-client`` and discard them."""
    begun = time.perf_counter()
    connection = _opened(url, lines)
    for _ in range(lines // LINES_A_MESSAGE):
        connection.recv_data()
    return time.perf_counter() - begun


BARE = "raw bytes of a socket, discarded"
CLIENTS: dict[str, Callable[[str, int], float]] = {"ours": ours, BARE: bare, "websocket-client, discarded": library}


if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
