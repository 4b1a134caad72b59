"""An agent in a separate process that sends long logs as fast as they are read.

A job's id describes its log: ``running-200000-10`` keeps running and has 200,000 lines, ten per message; ``ending-…``
succeeds once all lines are sent, ``ended-…`` has already succeeded. A suffix, as in ``ending-200000-10-b``, makes ids
unique; if it contains an ``m``, every other line is a warning.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import agent_process
from tests.scripted import Action, Complete, Do, Hold, Job, Play, ScriptedAgent
from tests.scripted.exchange import batches
from tests.scripted.messages import log_payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.scripted.exchange import Exchange

LINE_BYTES = 100
BLOCK_LINES = 1_000


def numbered_line(number: int) -> str:
    """Return a line of a long log, which begins with its number."""
    return f"{number:07d} {'of a long log':<{LINE_BYTES - 9}}\n"


BLOCK = [numbered_line(number) for number in range(BLOCK_LINES)]
"""Lines that the log repeats."""
MIXED = [f"WARNING: line {line[:-15]}\n" if number % 2 else line for number, line in enumerate(BLOCK)]
"""The same with alternating levels."""
WARM_UP_LINES = BLOCK_LINES
WARM_UP = f"running-{WARM_UP_LINES}-1"
"""A job of every feeder for warming up, so that first imports and connections are not measured."""


@dataclass(frozen=True)
class Feed(Action):
    """A log of ``blocks`` blocks, encoded once; over HTTP one chunk per message, as uvicorn sends it."""

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
    """Return the job that an id describes."""
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
    """Run an agent with these jobs; yield its URL."""
    with agent_process("feeder", json.dumps(job_ids)) as agent:
        yield agent.url


def main(job_ids: Sequence[str]) -> None:
    """Run the agent until standard input closes."""
    with ScriptedAgent(*map(job_of, {WARM_UP, *job_ids})) as agent:
        print(agent.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
