"""A job's log over plain Ray, read by ours and by Ray's own client: lines per second, and the memory of the reader.

    python -m benchmarks ray_client

A real Ray runs the jobs. Each reader is a process of its own, with the defaults: ours is what a worker uses, theirs is
``JobSubmissionClient.tail_job_logs``. The time is measured from the call to the last line, since both then wait for the
end of the job. Theirs includes one second that Ray's job head waits before it sends anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from benchmarks.feeder import LINE_BYTES
from benchmarks.measure import Line, Target, run_alternately
from benchmarks.processes import ROOT
from tests.stack.ray import cluster, driver_environment
from tests.stack.watch import wait_until
from tests.tail.memory import WARM_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.ray import Cluster

# The program starts with a pause, since Ray writes two lines to the log at about the same time.
PROGRAM = f"""python - <<'END'
import sys, time
time.sleep(2)
for number in range({{lines}}):
    sys.stdout.write(f"{{{{number:0{LINE_BYTES - 1}d}}}}\\n")
sys.stdout.flush()
time.sleep({{seconds}})
END"""
GROWN_MB = 16.0
"""What the tests of a tail's resources permit as well."""


def measure(*, short: bool) -> Iterator[Line]:
    """Read the logs of an ended and of a running job with both, and a long one with ours."""
    lines, rounds, many = (200_000, 2, 1_000_000) if short else (1_000_000, 5, 10_000_000)
    with cluster() as ray:
        for state, seconds in (("ended", 0), ("running", 3_600)):
            job_id = job_with_log(ray, lines, seconds)
            readers = (partial(read, who, ray, job_id, lines) for who in ("ours", "theirs"))
            ours, theirs = run_alternately(rounds, *readers)
            yield Line(
                "ray_client",
                f"{state} job, {lines:,} lines",
                "lines/s",
                [lines / each["seconds"] for each in ours],
                [lines / each["seconds"] for each in theirs],
                "Ray's own client",
                Target(minimum=2.0),
            )
            yield Line(
                "ray_client",
                f"{state} job, {lines:,} lines: peak memory of the reader",
                "MB",
                [each["peak"] for each in ours],
                [each["peak"] for each in theirs],
                "Ray's own client",
                note=f"before the log: {ours[0]['before']:.0f} MB; theirs: {theirs[0]['before']:.0f} MB",
            )
        result = read("ours", ray, job_with_log(ray, many, 0), many)
        yield Line(
            "ray_client",
            f"ended job, {many:,} lines: growth of memory after the first {WARM_LINES:,}",
            "MB",
            [result["grown"]],
            target=Target(maximum=GROWN_MB, of="figure"),
            note=f"to {result['peak']:.0f} MB, in {result['seconds']:.0f} s",
        )


def job_with_log(ray: Cluster, lines: int, seconds: int) -> str:
    """Run a job that writes a log and then sleeps; return its id once the log is written.

    :param seconds: how long it sleeps; 0: wait until it has ended.
    """
    job_id = ray.submit(PROGRAM.format(lines=lines, seconds=seconds))
    log = ray.log_file(job_id)
    wait_until(lambda: (log.exists() and log.stat().st_size > lines * LINE_BYTES) or None, "the log is not written")
    if not seconds:
        with BlockingServiceClient(read_config(host=ray.dashboard_url, extra={"service": "ray"})) as agent:
            job = agent.config.service.get_job(JobId(job_id))
            wait_until(lambda: agent.send(job)["status"] == "SUCCEEDED" or None, "the job does not end")
    return job_id


def read(who: str, ray: Cluster, job_id: str, lines: int) -> dict[str, float]:
    """Read a log in a separate process; return the seconds, and the memory in MB."""
    last = f"{lines - 1:0{LINE_BYTES - 1}d}"
    command = [sys.executable, "-m", "benchmarks.one_ray_log", who, ray.dashboard_url, job_id, str(lines), last]
    environment = driver_environment(ray.directory)
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result
