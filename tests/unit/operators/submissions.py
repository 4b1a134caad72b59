"""The operator that submits a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent

SUBMIT = "POST jobs/"
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


def make_rendered(**options: Any) -> RayAgentSubmitJobOperator:
    return rendered(make_operator(**options))


def sent_by(server: ScriptedAgent) -> dict[str, Any]:
    (sent,) = server.of(SUBMIT)
    body: dict[str, Any] = json.loads(sent.body)
    return body
