"""Read a job's log over plain Ray with one client in a separate process; print the time and the memory as JSON.

Each client's imports are in its own function: the memory of one must not include the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, field

from tests.tail.memory import WARM_LINES, peak_memory


@dataclass
class Reading:
    """What a client has received.

    :param last: the last line of the log.
    :param warm: peak memory after the first lines, in KB.
    :param before: peak memory before the first line, in KB.
    """

    last: str
    lines: int = 0
    warm: int = 0
    before: int = field(default_factory=peak_memory)
    began: float = field(default_factory=time.perf_counter)

    def add(self, lines: int) -> None:
        """Count lines."""
        self.lines += lines
        if not self.warm and self.lines >= WARM_LINES:
            self.warm = peak_memory()

    def result(self) -> dict[str, float]:
        """Return the seconds until now, and the memory in MB."""
        seconds, peak = time.perf_counter() - self.began, peak_memory()
        kilobytes = {"peak": peak, "grown": peak - (self.warm or peak), "before": self.before}
        return {"seconds": seconds, **{name: value / 1024 for name, value in kilobytes.items()}}


def read_with_ours(url: str, job_id: str, last: str) -> Reading:
    """Read up to the last line, as a worker does."""
    from airflow_provider_rayagent.connection.config import read_config
    from airflow_provider_rayagent.services.validation import JobId
    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.tail.items import lines_in
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
    from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower

    with BlockingServiceClient(read_config(host=url, extra={"service": "ray"})) as agent:
        reading = Reading(last)
        for items in BlockingFollower(agent, JobId(job_id), TailSettings()).blocking_items():
            lines = lines_in(items)
            reading.add(len(lines))
            if lines and lines[-1] == last:
                break
    return reading


def read_with_theirs(url: str, job_id: str, last: str) -> Reading:
    """Read up to the last line with Ray's own client."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(url)
    reading = Reading(last)

    async def read() -> None:
        async for chunk in client.tail_job_logs(job_id):
            reading.add(chunk.count("\n"))
            if chunk.endswith(f"{last}\n"):
                return

    asyncio.run(read())
    return reading


def main(who: str, url: str, job_id: str, lines: str, last: str) -> None:
    """Read a log of at least ``lines`` lines."""
    reading = (read_with_ours if who == "ours" else read_with_theirs)(url, job_id, last)
    result = reading.result()
    if reading.lines < int(lines):
        raise AssertionError(f"{int(lines) - reading.lines} lines are missing")
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
