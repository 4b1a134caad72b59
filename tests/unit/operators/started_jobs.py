"""Jobs that operators start, over an agent and over Ray's dashboard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.run.job_ids import derived_id
from tests.scripted import Answer, Grow, Job, ScriptedAgent, SetStatus, Sleep, WaitFor

if TYPE_CHECKING:
    from tests.scripted import Request, Step
    from tests.unit.support import TaskLog

ROOT = derived_id(("night", "run-7", "follow", "-1"))
PRINTED = 'epoch 1\n__RAYAGENT_RESULT_START__{"loss": 0.5}__RAYAGENT_RESULT_END__\n'


def starting(
    server: ScriptedAgent,
    *then: Step,
    first: str = "RUNNING",
    status: str = "SUCCEEDED",
    text: str = PRINTED,
    **overrides: Any,
) -> Step:
    """Return a step that starts the job that is asked for, and then answers.

    :param then: the answer.
    :param first: status in which the job begins.
    :param status: status in which it ends.
    :param text: what it prints.
    :param overrides: more arguments of :class:`Job`.
    """

    def start(request: Request) -> Any:
        body = json.loads(request.body)
        job_id = body.get("job_id") or body["submission_id"]
        timeline = [Sleep(0.2), Grow(text), Sleep(0.2), SetStatus(status)]
        details = {name: body[name] for name in ("metadata", "runtime_env") if name in body}
        arguments = {"status": first, "job_id": job_id, "timeline": timeline, "details": details, **overrides}
        server.jobs[job_id] = Job("", **arguments)
        ids = {"job_id": job_id} if "job_id" in body else {"job_id": job_id, "submission_id": job_id}
        return then[0] if then else Answer(200, ids)

    return start


def until_attached(log: TaskLog) -> WaitFor:
    """Return what waits until the operator has found its job running and follows it."""
    return WaitFor(lambda: any("already exists" in message for message in log.messages))
