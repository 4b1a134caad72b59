"""An agent in a process of its own that sends long logs as fast as they are read.

A job's id says how its log comes: ``running-200000-10`` goes on, has 200,000 lines, and a message holds ten of them;
``ending-…`` succeeds once they have been sent, ``ended-…`` has succeeded. What follows, as in ``ending-200000-10-b``,
tells jobs apart; every other line of one with an ``m`` in it is a warning.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.scripted import Action, Complete, Do, Hold, Job, Play, ScriptedAgent
from tests.scripted.exchange import batches
from tests.scripted.messages import log_payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.scripted.exchange import Exchange

ROOT = Path(__file__).parents[1]
LINE_BYTES = 100
BLOCK_LINES = 1_000
BLOCK = [f"{number:07d} {'of a long log':<{LINE_BYTES - 9}}\n" for number in range(BLOCK_LINES)]
"""The log is this, again and again."""
MIXED = [f"WARNING: line {line[:-15]}\n" if number % 2 else line for number, line in enumerate(BLOCK)]
"""The same, in which no line is of the level of the one before."""
WARM_UP_LINES = BLOCK_LINES
WARM_UP = f"running-{WARM_UP_LINES}-1"
"""A job that every feeder has: what is imported and connected at first is not what is measured."""


@dataclass(frozen=True)
class Feed(Action):
    """The log of ``blocks`` blocks, over HTTP a chunk for each message, as uvicorn sends it; encoded once."""

    lines: Sequence[str]
    lines_a_message: int
    blocks: int

    async def run(self, x: Exchange) -> None:
        size = self.lines_a_message
        messages = (log_payload("".join(self.lines[at : at + size])) for at in range(0, BLOCK_LINES, size))
        await x.ready()
        encoded = [b"".join(map(x.encode, batch)) for batch in batches(messages)]
        for _ in range(self.blocks):
            for block in encoded:
                await x.wire(block)
        x.count(self.blocks * BLOCK_LINES // size)


def job_of(job_id: str) -> Job:
    """Return the job that an id stands for."""
    state, lines, size, *rest = job_id.split("-")
    blocks = int(lines) // BLOCK_LINES
    block = MIXED if "m" in "".join(rest) else BLOCK
    text = "".join(block)
    job = Job(
        lambda: (text for _ in range(blocks)),
        "SUCCEEDED" if state == "ended" else "RUNNING",
        job_id=job_id,
    )
    feed = Feed(block, int(size), blocks)
    end = (Do(lambda: job.set_status("SUCCEEDED")), Complete()) if state == "ending" else (Hold(),)
    job.ws = job.sse = [Play(feed, *end)]
    return job


@contextmanager
def feeder(job_ids: Sequence[str]) -> Iterator[str]:
    """Run an agent with these jobs; give its URL."""
    command = [sys.executable, "-m", "benchmarks.feeder", json.dumps(job_ids)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main(job_ids: Sequence[str]) -> None:
    """Be the agent until the input ends."""
    with ScriptedAgent(*map(job_of, {WARM_UP, *job_ids})) as agent:
        print(agent.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
