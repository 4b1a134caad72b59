"""Stop the job of a killed task, in a worker or a triggerer. The functions block."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.answers import brief
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.validation import validate_job_id
from airflow_provider_rayagent.task_instance.state import ACTIVE_STATES, task_state

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.config import AgentConfig

KILL_CONNECT_SECONDS = 1.0
KILL_READ_SECONDS = 2.0
STOP_FAILED = "Failed to stop job %s: %s"


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
        log.info("This trigger is ending but the task is still active (%s); not stopping job %s.", state, job_id)
    else:
        log.info("This process is ending but the task is still active (%s); not stopping job %s.", state, job_id)
    return False, state


def stop_job(config: AgentConfig, job_id: str, log: Any, why: str, *, hurry: bool = False) -> None:
    """Ask the agent to stop a job, over a connection of its own. A failure is logged, not raised.

    :param log: the task's logger.
    :param why: the reason, as the beginning of a log message.
    :param hurry: try once, with short timeouts, since Airflow escalates after 5 seconds
        (``WatchedSubprocess.kill`` in ``airflow/sdk/execution_time/supervisor.py``).
    """
    from airflow_provider_rayagent.client.blocking import BlockingAgent

    log.info("%s; stopping job %s.", why, job_id)
    if hurry:
        config = replace(
            config,
            connect_timeout=min(config.connect_timeout, KILL_CONNECT_SECONDS),
            read_timeout=min(config.read_timeout, KILL_READ_SECONDS),
        )
    call = config.service.stop_job(validate_job_id(job_id))
    try:
        with BlockingAgent(config) as agent:
            answer = agent.send(call, tries=1) if hurry else agent.send(call)
    except RayAgentError as error:
        log.error(STOP_FAILED, job_id, error)  # noqa: TRY400
    else:
        log.info("Stop of job %s requested; the response: %s", job_id, brief(answer, config.redact))
