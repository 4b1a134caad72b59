"""Stop the job of a task that was ended, in a worker and in a triggerer alike. Both functions block."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.client.answers import brief
from airflow_provider_rayagent.client.errors import RayAgentError
from airflow_provider_rayagent.client.validation import validate_job_id
from airflow_provider_rayagent.task_instance.state import ACTIVE_STATES, task_state

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.config import AgentConfig

HURRIED_CONNECT_SECONDS = 1.0
HURRIED_READ_SECONDS = 2.0
NOT_STOPPED = "Job %s could not be stopped: %s"


def state_if_ended(ti: Any, job_id: str, log: Any, *, deferred: bool = False) -> tuple[bool, str | None]:
    """Return whether a killed task has ended, and its state; if it goes on elsewhere, log that its job is left alone.

    :param ti: the task instance.
    :param log: the task's logger.
    :param deferred: whether it is a trigger that ends.
    """
    state = task_state(ti, deferred=deferred)
    if state not in ACTIVE_STATES:
        return True, state
    if deferred:
        log.info("This trigger ends; the task goes on (%s), and job %s is left alone.", state, job_id)
    else:
        log.info("This process ends; the task goes on (%s), and job %s is left alone.", state, job_id)
    return False, state


def stop_job(config: AgentConfig, job_id: str, log: Any, why: str, *, hurry: bool = False) -> None:
    """Ask the agent to stop a job, over a connection of its own. A failure is logged, not raised.

    :param log: the task's logger.
    :param why: the beginning of a sentence for the log.
    :param hurry: try once, within the 5 seconds that a killed task has.
    """
    from airflow_provider_rayagent.client.blocking import BlockingAgent

    log.info("%s; stopping job %s.", why, job_id)
    if hurry:
        config = replace(
            config,
            connect_timeout=min(config.connect_timeout, HURRIED_CONNECT_SECONDS),
            read_timeout=min(config.read_timeout, HURRIED_READ_SECONDS),
        )
    call = config.service.stop_job(validate_job_id(job_id))
    try:
        with BlockingAgent(config) as agent:
            answer = agent.send(call, tries=1) if hurry else agent.send(call)
    except RayAgentError as error:
        log.error(NOT_STOPPED, job_id, error)  # noqa: TRY400
    else:
        log.info("The agent was asked to stop job %s: %s", job_id, brief(answer, config.redact))
