"""Stop the job of a task that is being killed, unless the task goes on elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.agent import wire

if TYPE_CHECKING:
    from airflow_provider_rayagent.agent.config import AgentConfig

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
GOES_ON = frozenset({"running", "deferred", "up_for_retry", "up_for_reschedule", "scheduled", "queued"})
"""States of a task instance whose job must not be stopped: this try goes on elsewhere, or the next one follows."""


def task_state(ti: Any) -> str | None:
    """Return the state of a task instance as Airflow has it now, ``None`` if it has none. Blocks.

    :param ti: has ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    return next(iter(states.get(ti.run_id, {}).values()), None)


def stop_soon(config: AgentConfig, job_id: str) -> dict[str, Any]:
    """Ask the agent to stop a job, with a session of its own and within the 5 seconds that a killed task has.

    :raises RayAgentError: if that failed.
    """
    from airflow_provider_rayagent.agent.blocking import BlockingAgent

    hurried = replace(
        config,
        connect_timeout=min(config.connect_timeout, CONNECT_SECONDS),
        read_timeout=min(config.read_timeout, ANSWER_SECONDS),
    )
    agent = BlockingAgent(hurried)
    try:
        answer: dict[str, Any] = agent.send(wire.stop_job(job_id), tries=1)
    finally:
        agent.close()
    return answer
