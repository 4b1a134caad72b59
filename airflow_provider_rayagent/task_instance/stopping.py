"""Stop the job of a killed task, in a worker or a triggerer. The functions block."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentNotFoundError
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.task_instance.current_state import ACTIVE_STATES, task_state
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.transport.responses import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.connection.config import ServiceConfig

# What is sent with these limits fits into the time that a killed task has (``KILL_SECONDS`` in run/stopper.py).
KILL_CONNECT_SECONDS = 1.0
KILL_READ_SECONDS = 2.0
_STOP_FIELDS = ("stopped", "status", "job_id")
"""What is shown of the response to a stop: Ray's field, and those that an agent may have."""
STOPPING = "%s; stopping job %s."
STOP_FAILED = coded(Code.STOP_FAILED, "Failed to stop job %s: %s")


def state_if_ended(ti: Any, job_id: str, log: Any, *, deferred: bool = False) -> tuple[bool, str | None]:
    """Return whether a killed task has ended, and its state. If it has not, log that its job keeps running.

    :param ti: the task instance.
    :param log: the task's logger.
    :param deferred: whether the caller is a trigger.
    """
    state = task_state(ti, deferred=deferred)
    if state not in ACTIVE_STATES:
        return True, state
    if deferred:
        log.info(
            coded(Code.NOT_STOPPED, "This trigger is ending but the task is still active (%s); not stopping job %s."),
            state,
            job_id,
        )
    else:
        log.info(
            coded(Code.NOT_STOPPED, "This process is ending but the task is still active (%s); not stopping job %s."),
            state,
            job_id,
        )
    return False, state


def stop_job(
    config: ServiceConfig,
    job_id: str,
    log: Any,
    why: str,
    *,
    hurry: bool = False,
    check: Callable[[Mapping[str, Any]], object] | None = None,
) -> bool:
    """Ask the agent to stop a job, over a connection of its own. Return whether it accepts that.

    A failure is logged, not raised.

    :param log: the task's logger.
    :param why: the reason, as the beginning of a log message.
    :param hurry: try once, with short timeouts, since Airflow escalates after 5 seconds
        (``WatchedSubprocess.kill`` in ``airflow/sdk/execution_time/supervisor.py``).
    :param check: called with the job's details before; raises :class:`RayAgentError` if the job must not be stopped.
    """
    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
    from airflow_provider_rayagent.transport.request_retry import MAX_TRIES

    if hurry:
        # The check is a request of its own, over the same connection.
        read_seconds = KILL_READ_SECONDS if check is None else KILL_READ_SECONDS / 2
        config = replace(
            config,
            connect_timeout=min(config.connect_timeout, KILL_CONNECT_SECONDS),
            read_timeout=min(config.read_timeout, read_seconds),
        )
    service, valid_id = config.service, validate_job_id(job_id)
    tries = 1 if hurry else MAX_TRIES
    try:
        # Not the task's own connection, which may be in the middle of the request that the kill has interrupted.
        with BlockingServiceClient(config) as client:
            if check is not None:
                # An agent does not know the details of a job in its queue.
                with suppress(RayAgentNotFoundError):
                    check(client.send(service.get_job(valid_id), tries=tries))
            response = client.send(service.stop_job(valid_id), tries=tries)
    except RayAgentNotFoundError:
        log.info("%s; job %s does not exist, so that nothing is to be stopped.", why, job_id)
        return False
    except RayAgentError as error:
        log.info(STOPPING, why, job_id)
        log.error(STOP_FAILED, job_id, error.detail)  # noqa: TRY400
        return False
    # After the request: the main thread of a killed task may be waiting for ever for the log, with its lock.
    log.info(STOPPING, why, job_id)
    told = {name: response[name] for name in _STOP_FIELDS if name in response}
    log.info("Stop of job %s requested; the response: %s", job_id, brief(told, config.redact))
    return True
