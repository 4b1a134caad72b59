"""Explain in a worker, or for the command line, why a job failed; Ray is asked what it has recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.failures.failure_look import LOOK_SECONDS, FailureLook
from airflow_provider_rayagent.services.jobs import JobStatus, known_status
from airflow_provider_rayagent.text.sanitization import shown_error
from airflow_provider_rayagent.transport import daemon_threads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from airflow_provider_rayagent.connection.config import ServiceConfig


def look_at_failure(config: ServiceConfig, job: Mapping[str, Any]) -> FailureLook | None:
    """Return what Ray has recorded about a job, as far as it tells within some seconds; ``None`` if it is not FAILED.

    Whatever happens meanwhile, the job has ended, so nothing is raised that would change the outcome.
    """
    if known_status(job) is not JobStatus.FAILED:
        return None
    # Here, since DAG files must not load a transport library.
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient

    look = FailureLook(config.service, job, time.time())
    # Of its own: the task may close its client while the look goes on.
    with BlockingServiceClient(config) as client:
        # In another thread, since the time limits of single requests add up to more.
        result = daemon_threads.start(lambda: client.send(look.steps(), tries=1))
        try:
            is_done = daemon_threads.is_done_within(LOOK_SECONDS, result)
        except AirflowTaskTimeout:
            is_done = False
        # Another request would open a new connection.
        look.cancel()
    if not is_done:
        look.note = f"Ray did not tell all that it has recorded within {LOOK_SECONDS:g} seconds."
    elif (error := result.exception()) is not None:
        look.note = f"What Ray recorded about this job could not be read: {shown_error(error)}"
    return look
