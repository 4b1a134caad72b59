"""What Ray has answered to looks at jobs that wait: recorded by the tests with a real Ray, replayed by unit tests.

``TEST_LEVEL=full pytest tests/local/test_wait_reasons.py --update-records`` records it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.activity.shared_records import SharedRecords
from airflow_provider_rayagent.activity.wait_look import look_at_wait
from airflow_provider_rayagent.services import ray_responses
from airflow_provider_rayagent.services.call import Call, finish, run_steps
from airflow_provider_rayagent.services.ray_service import RAY
from tests.failure_records import key_of, without_places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.activity.wait_reasons import WaitReason
    from airflow_provider_rayagent.services.call import Pause
    from airflow_provider_rayagent.services.service import Service

FOLDER = Path(__file__).parent / "unit" / "activity" / "records"


def store(name: str, job_id: str, job: Mapping[str, Any], answers: Mapping[str, Any], told: str) -> None:
    """Store a job, the answers to a look at it, and what was said."""
    text = json.dumps({"job_id": job_id, "job": dict(job), "answers": answers, "told": told}, indent=1)
    (FOLDER / f"{name}.json").write_text(without_places(text) + "\n", encoding="utf-8")


def replayed(name: str) -> tuple[str, WaitReason | None]:
    """Return what was said of the job in a file, and what is said now with the answers in the file."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return stored["told"], reason_with(stored["job_id"], stored["job"], stored["answers"])


def reason_with(
    job_id: str, job: Mapping[str, Any], answers: Mapping[str, Any], service: Service = RAY
) -> WaitReason | None:
    """Return why a job waits, given answers by :func:`key_of`."""

    async def do(step: Call | Pause) -> Any:
        assert isinstance(step, Call)
        answer = answers[key_of(step)]
        return ray_responses.ClusterStatus(*answer) if step.path == "api/cluster_status" else answer

    records = SharedRecords(service, lambda: 0.0, lambda _: None)
    found: WaitReason | None = finish(run_steps(look_at_wait(records, job_id, job, str), do))
    return found
