"""Observe one job as a sensor in a worker does, in a separate process; print the times as JSON.

The records of the task log are made and discarded. The hook uses the Airflow connection ``rayagent_default``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.run.follow_options import FollowOptions
from airflow_provider_rayagent.run.job_run import JobRun

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT = "without"
"""Observe without the code of the metrics."""


class NoMetrics:
    """Stands for the metrics of a job, and does nothing."""

    @contextmanager
    def following(self, _follower: object) -> Iterator[None]:
        """Do nothing."""
        yield

    def forwarded(self, _follower: object, _items: object) -> None:
        """Do nothing."""


def measured(job_id: str, *, without: bool) -> dict[str, float]:
    """Observe a job to its end; return the elapsed and the CPU seconds, and the number of lines."""
    options = FollowOptions(protocol="websocket")
    with RayAgentHook() as hook:
        context: Any = {"ti": None}
        observer = JobRun(hook, job_id, context, structlog.get_logger(), options).observer
        if without:
            metrics: Any = NoMetrics()
            observer.metrics = metrics
        begun, cpu = time.perf_counter(), time.process_time()
        follower = observer.follow()
        return {
            "seconds": time.perf_counter() - begun,
            "cpu": time.process_time() - cpu,
            "lines": follower.cursor.lines,
        }


def main(variant: str, warm_up: str, job_id: str) -> None:
    """Observe a short job, then the one to measure."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        structlog.configure(
            processors=[lambda _logger, _method, record: record["event"]],
            logger_factory=structlog.PrintLoggerFactory(nowhere),
        )
        measured(warm_up, without=variant == WITHOUT)
        result = measured(job_id, without=variant == WITHOUT)
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
