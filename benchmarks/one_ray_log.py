"""Read a job's log over plain Ray with one client in a separate process; print the seconds.

The time is measured from the call to the last line, since both clients then wait for the end of the job.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from ray.job_submission import JobSubmissionClient

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.items import lines_in
from airflow_provider_rayagent.transport.blocking import BlockingAgent
from airflow_provider_rayagent.transport.blocking_driver import Follower


def read_with_ours(url: str, job_id: str, last: str) -> int:
    """Read up to the last line, as a worker does; return the number of lines."""
    count = 0
    with BlockingAgent(read_config(host=url, extra={"service": "ray"})) as agent:
        for items in Follower(agent, JobId(job_id), TailSettings()).items():
            lines = lines_in(items)
            count += len(lines)
            if lines and lines[-1] == last:
                break
    return count


def read_with_theirs(url: str, job_id: str, last: str) -> int:
    """Read up to the last line with Ray's own client; return the number of lines."""

    async def read() -> int:
        count = 0
        async for chunk in JobSubmissionClient(url).tail_job_logs(job_id):
            count += chunk.count("\n")
            if chunk.endswith(f"{last}\n"):
                break
        return count

    return asyncio.run(read())


def main(who: str, url: str, job_id: str, lines: str, last: str) -> None:
    """Read a log of at least ``lines`` lines."""
    began = time.perf_counter()
    count = (read_with_ours if who == "ours" else read_with_theirs)(url, job_id, last)
    seconds = time.perf_counter() - began
    if count < int(lines):
        raise AssertionError(f"{int(lines) - count} lines are missing")
    print(seconds, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
