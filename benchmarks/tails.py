"""Lines per second of the hooks' tails, compared with the agent's Python client.

Both run in processes of the same interpreter, with the same transport libraries. Ours gives all of its guarantees: it
detects how messages form the text, and verifies what it reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.feeder import feeder
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOOK = ("hook", "ours", "synapse_sdk")
ASYNC = ("async hook", "ours-async", "synapse_sdk-async")
TRIGGER = ("async hook, as used by triggers", "ours-batches", "synapse_sdk-async")
ROWS = (
    (HOOK, "websocket", 1, 7.0),
    (HOOK, "websocket", 10, 14.0),
    (HOOK, "http", 1, 1.3),
    (HOOK, "http", 10, 1.3),
    (ASYNC, "websocket", 1, 1.5),
    (ASYNC, "websocket", 10, 1.5),
    (TRIGGER, "websocket", 10, 1.5),
    # Theirs yields raw events without decoding them.
    (ASYNC, "http", 1, None),
    (ASYNC, "http", 10, None),
)
NAMES = {"websocket": "WebSocket", "http": "SSE"}


def measure(*, short: bool) -> Iterator[Line]:
    """Measure all tails; in short, by the CPU time of the clients, since CI runs other programs beside them."""
    rounds, unit, time = (2, "lines/CPU s", "cpu") if short else (5, "lines/s", "seconds")
    lines = {1: 20_000, 10: 100_000} if short else {1: 200_000, 10: 200_000}
    rows = [row for row in ROWS if not (short and row[-1] is None)]
    ids = {size: f"running-{lines[size]}-{size}" for _, _, size, _ in rows}
    with feeder(list(ids.values())) as url, ExitStack() as stack:
        names = dict.fromkeys(name for (_, *pair), *_ in rows for name in pair)
        clients = {name: stack.enter_context(client(name, url)) for name in names}
        for (what, *pair), protocol, size, least in rows:
            ours, theirs = run_alternately(rounds, *(partial(clients[name], protocol, ids[size]) for name in pair))
            cpu, their_cpu = (sum(result["cpu"] for result in results) for results in (ours, theirs))
            yield Line(
                "tails",
                f"{what}, {NAMES[protocol]}, {size} line{'s' if size > 1 else ''} per message",
                unit,
                [lines[size] / result[time] for result in ours],
                [lines[size] / result[time] for result in theirs],
                "synapse_sdk",
                Target(minimum=least) if least else None,
                f"CPU {cpu / rounds / lines[size] * 1e6:.2g} µs per line, {cpu / their_cpu:.2f}×",
            )


@contextmanager
def client(name: str, url: str) -> Iterator[Callable[[str, str], dict[str, float]]]:
    """Run a client in a process of its own; yield a function that tails a job with it.

    The function takes a protocol and the id of a job, and returns the elapsed seconds and the CPU seconds.
    """
    command = [sys.executable, "-m", "benchmarks.one_tail", name, url]
    connection = json.dumps({"conn_type": "rayagent", "host": url, "password": "t"})
    env = {**os.environ, "AIRFLOW_CONN_RAYAGENT_DEFAULT": connection}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, results = process.stdin, process.stdout

        def tail(protocol: str, job_id: str) -> dict[str, float]:
            print(protocol, job_id, file=requests, flush=True)
            for line in results:
                if line.startswith("{"):  # Airflow prints log messages in between.
                    result: dict[str, float] = json.loads(line)
                    return result
            raise RuntimeError(f"The client {name} ended while it tailed {job_id} over {protocol}.")

        yield tail
        requests.close()


if __name__ == "__main__":
    for line in measure(short="--short" in sys.argv):
        print(line.cells())
