"""Lines per second of the hooks' tails, compared with the agent's Python client.

Both run in processes of the same interpreter, with the same transport libraries. Ours gives all of its guarantees: it
detects how messages form the text, and verifies what it reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.feeder import ROOT, feeder
from benchmarks.measure import Line, Target, run_alternately

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = ("hook", "ours", "synapse_sdk")
ASYNC = ("async hook", "ours-async", "synapse_sdk-async")
TRIGGER = ("async hook, as used by triggers", "ours-batches", "synapse_sdk-async")
ROWS = (
    (HOOK, "websocket", 1, 2.5),
    (HOOK, "websocket", 10, 10.0),
    (HOOK, "http", 1, 1.0),
    (HOOK, "http", 10, 1.0),
    (ASYNC, "websocket", 1, 1.5),
    (ASYNC, "websocket", 10, 1.5),
    (TRIGGER, "websocket", 10, 1.5),
    # Theirs yields raw events without decoding them.
    (ASYNC, "http", 1, None),
    (ASYNC, "http", 10, None),
)
NAMES = {"websocket": "WebSocket", "http": "SSE"}


def measure(*, short: bool) -> Iterator[Line]:
    """Measure all tails."""
    lines, rounds = (50_000, 2) if short else (200_000, 5)
    for (what, *clients), protocol, size, least in ROWS:
        if short and least is None:
            continue
        job_id = f"running-{lines}-{size}"
        with feeder([job_id]) as url:
            ours, theirs = run_alternately(rounds, *(partial(tail, who, protocol, url, job_id) for who in clients))
        yield Line(
            "tails",
            f"{what}, {NAMES[protocol]}, {size} line{'s' if size > 1 else ''} per message",
            "lines/s",
            [lines / result["seconds"] for result in ours],
            [lines / result["seconds"] for result in theirs],
            "synapse_sdk",
            Target(minimum=least) if least else None,
            f"CPU {sum(result['cpu'] for result in ours) / sum(result['cpu'] for result in theirs):.2f}×",
        )


def tail(who: str, protocol: str, url: str, job_id: str) -> dict[str, float]:
    """Tail a job with one client; return the elapsed seconds and the CPU seconds."""
    command = [sys.executable, "-m", "benchmarks.one_tail", who, protocol, url, job_id]
    connection = json.dumps({"conn_type": "rayagent", "host": url, "password": "t"})
    env = {**os.environ, "AIRFLOW_CONN_RAYAGENT_DEFAULT": connection}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    for line in measure(short="--short" in sys.argv):
        print(line.cells())
