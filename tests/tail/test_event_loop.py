"""A trigger does not block its event loop, however much a job prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.level import by_level
from tests.scripted import Complete, Do, Job, Play, ScriptedAgent
from tests.tail.figures import figure
from tests.tail.test_resources import ROOT, Repeated

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = f"{'of a long log':x<100}\n"
LINES = by_level(250_000, 1_000_000)
MESSAGE_LINES = 10
MAX_BLOCK = 1 / 40
"""Share of the total time; code that reads or writes a log in one step exceeds it."""


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_large_log_does_not_block_the_event_loop(protocol: str) -> None:
    """CPU time is measured, since wall time depends on the load of the machine."""
    message = LINE * MESSAGE_LINES
    count = LINES // MESSAGE_LINES

    def text() -> Iterator[str]:
        return (message for _ in range(count))

    job = Job(text, "RUNNING")
    job.ws = job.sse = [Play(Repeated(message, count), Do(lambda: job.set_status("SUCCEEDED")), Complete())]
    with ScriptedAgent(job, Job(LINE, job_id="warm-up")) as agent:
        connection = json.dumps({"conn_type": "rayagent", "host": agent.url, "password": "t"})
        told = subprocess.run(
            [sys.executable, "-m", "tests.tail.follow_deferred", protocol, "of a long log"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_CONN_RAYAGENT_DEFAULT": connection},
            capture_output=True,
            text=True,
        )
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout.splitlines()[-1])
    assert (result["status"], result["lines"]) == ("SUCCEEDED", LINES + 1)
    assert result["cpu_max"] < MAX_BLOCK * result["cpu"]
    figure(
        f"event loop while {LINES * len(LINE) / 1e6:.0f} MB pass a trigger ({protocol}): longest block "
        f"{result['cpu_max']:.1f} ms of work ({result['wall_max']:.1f} ms on the clock), 99% under "
        f"{result['cpu_p99']:.1f} ms ({result['wall_p99']:.1f} ms), in {result['seconds']:.0f} s"
    )
