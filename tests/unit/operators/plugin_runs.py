"""What the tests of the operators that start jobs share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator
from airflow_provider_rayagent.tasks.job_ids import derived_id
from tests.scripted import Action, Answer, Grow, Job, Play, ScriptedAgent, SetStatus, Sleep, WaitFor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import Request
    from tests.unit.support import TaskLog


RUN = "POST plugin_releases/train@1.0/run/"
ROOT = derived_id(("night", "run-7", "follow", "-1"))
PRINTED = 'epoch 1\n__SYNAPSE_RESULT_START__{"loss": 0.5}__SYNAPSE_RESULT_END__\n'


def make_operator(**options: Any) -> RayAgentRunPluginOperator:
    arguments = {"task_id": "follow", "lookup": "train@1.0", "action": "train", "poll_interval": 0.5, **options}
    return RayAgentRunPluginOperator(**arguments)


def starting(
    agent: ScriptedAgent, *then: Play | Action, status: str = "SUCCEEDED", **details: Any
) -> Callable[[Request], Play | Action]:
    """Return a step that starts the job that is asked for, and then answers."""

    def start(request: Request) -> Play | Action:
        job_id = json.loads(request.body)["job_id"]
        timeline = [Sleep(0.2), Grow(PRINTED), Sleep(0.2), SetStatus(status)]
        agent.jobs[job_id] = Job("", **{"status": "RUNNING", "job_id": job_id, "timeline": timeline, **details})
        return then[0] if then else Answer(200, {"job_id": job_id})

    return start


def until_attached(log: TaskLog) -> WaitFor:
    """Return what waits until the operator has found its job running and follows it."""
    return WaitFor(lambda: any("already exists" in message for message in log.messages))
