"""What the tests of the operator that submits a job share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from airflow_provider_rayagent.tasks.job_ids import derived_id
from tests.scripted import Answer, Grow, Job, ScriptedAgent, SetStatus, Sleep

if TYPE_CHECKING:
    from tests.scripted import Request, Step

SUBMIT = "POST jobs/"
ROOT = derived_id(("night", "run-7", "follow", "-1"))
PRINTED = 'epoch 1\n__SYNAPSE_RESULT_START__{"loss": 0.5}__SYNAPSE_RESULT_END__\n'
ORIGIN = {
    "airflow_dag_id": "night",
    "airflow_run_id": "run-7",
    "airflow_task_id": "follow",
    "airflow_map_index": "-1",
}


def make_operator(**options: Any) -> RayAgentSubmitJobOperator:
    arguments = {"task_id": "follow", "entrypoint": "python train.py", "poll_interval": 0.5, **options}
    return RayAgentSubmitJobOperator(**arguments)


def rendered(operator: RayAgentSubmitJobOperator, **context: Any) -> RayAgentSubmitJobOperator:
    words: Any = {"word": "hidden-word", **context}
    operator.render_template_fields(words)
    return operator


def starting(server: ScriptedAgent, *then: Step, status: str = "SUCCEEDED", text: str = PRINTED) -> Step:
    """Return a step that starts the submitted job, and then answers."""

    def start(request: Request) -> Any:
        body = json.loads(request.body)
        job_id = body["submission_id"]
        timeline = [Sleep(0.2), Grow(text), Sleep(0.2), SetStatus(status)]
        details = {name: body[name] for name in ("metadata", "runtime_env") if name in body}
        server.jobs[job_id] = Job("", "RUNNING", job_id, timeline=timeline, details=details)
        return then[0] if then else Answer(200, {"job_id": job_id, "submission_id": job_id})

    return start


def sent_by(server: ScriptedAgent) -> dict[str, Any]:
    (sent,) = server.of(SUBMIT)
    body: dict[str, Any] = json.loads(sent.body)
    return body
