"""Follow a job with a trigger in a separate process, and print as JSON how long its event loop was blocked.

Records go where those of a triggerer go: through a socket to another process, which reads 4096 bytes at a time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from typing import Any

from airflow.sdk.log import configure_logging

from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

READER = """
import os, sys
count, rest = 0, b""
while data := os.read(0, 4096):
    data = rest + data
    count += data.count(sys.argv[1].encode())
    rest = data[-len(sys.argv[1]) + 1 :]
print(count)
"""


class Blocks:
    """Duration of each callback of an event loop, in seconds of CPU time and wall time."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def measure(self) -> None:
        """Start to measure callbacks."""
        handle: Any = asyncio.events.Handle
        run = handle._run

        def measured(this: Any) -> None:
            cpu, wall = time.thread_time(), time.perf_counter()
            run(this)
            self.cpu.append(time.thread_time() - cpu)
            self.wall.append(time.perf_counter() - wall)

        handle._run = measured

    def told(self) -> dict[str, float]:
        """Return the maximum and the 99th percentile in milliseconds."""
        told = {}
        for name, found in (("cpu", sorted(self.cpu)), ("wall", sorted(self.wall))):
            told[f"{name}_max"] = found[-1] * 1_000
            told[f"{name}_p99"] = found[len(found) * 99 // 100] * 1_000
        return told


async def follow(job_id: str, protocol: Any) -> Any:
    trigger = RayAgentJobTrigger(job_id=job_id, protocol=protocol)
    async with aclosing(trigger.run()) as events:
        return (await anext(events)).payload


async def run(protocol: str, blocks: Blocks) -> dict[str, Any]:
    await follow("warm-up", protocol)
    # A full collection looks at all objects of Airflow, which takes 100 ms, and falls into this time by chance.
    gc.collect()
    gc.freeze()
    blocks.measure()
    begun, cpu = time.monotonic(), time.thread_time()
    payload = await follow("j1", protocol)
    spent = {"seconds": time.monotonic() - begun, "cpu": (time.thread_time() - cpu) * 1_000}
    return {"status": payload["status"], **spent, **blocks.told()}


def main(protocol: str, marker: str) -> None:
    """Follow ``j1`` of the connection ``rayagent_default``; ``marker`` is in each of its lines."""
    near, far = socket.socketpair()
    command = [sys.executable, "-c", READER, marker]
    with subprocess.Popen(command, stdin=far.fileno(), stdout=subprocess.PIPE) as reader:
        far.close()
        with near, near.makefile("wb", buffering=0) as output:
            configure_logging(json_output=True, output=output)
            told = asyncio.run(run(protocol, Blocks()))
        out, _ = reader.communicate()
    print(json.dumps({**told, "lines": int(out)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
