"""How soon a task may run again after a deferral, or after a poke with ``mode="reschedule"``.

The worker notices the end of the task's process up to ``[workers] min_heartbeat_interval`` seconds late
(``_monitor_subprocess`` in ``airflow/sdk/execution_time/supervisor.py``). If the task runs again by then, the scheduler
takes this end for that of the new process, and fails the task (``process_executor_events`` in
``airflow/jobs/scheduler_job_runner.py``).
"""

from __future__ import annotations

import asyncio
import time

from airflow.sdk.configuration import conf

MARGIN_SECONDS = 5.0
"""Time in which the process ends, the worker uploads the log, and the scheduler handles the end."""


def seconds_to_resume() -> float:
    """Return the seconds for which a task must not run again."""
    interval: float = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
    return interval + MARGIN_SECONDS


async def pause_until_resumable(began: float, task_instance: object | None) -> None:
    """Wait until a task may resume whose trigger has started at ``began`` on the monotonic clock.

    :param task_instance: the trigger's; ``None`` in ``dag.test()``, which has no scheduler.
    """
    if task_instance is not None:
        await asyncio.sleep(max(began + seconds_to_resume() - time.monotonic(), 0.0))
