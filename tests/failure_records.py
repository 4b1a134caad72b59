"""What Ray has answered to the looks at failed jobs: recorded by the tests with a real Ray, replayed by unit tests.

``pytest tests/local/test_failure_kinds.py --update-records`` records it again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from airflow_provider_rayagent.errors.service_errors import RayAgentError, for_status
from airflow_provider_rayagent.failures.failure_look import FailureLook
from airflow_provider_rayagent.services.call import Call, finish, run_steps
from airflow_provider_rayagent.services.jobs import ended_at
from airflow_provider_rayagent.services.ray_responses import NodeUsage
from airflow_provider_rayagent.services.ray_service import RAY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_rayagent.services.call import Pause
    from airflow_provider_rayagent.services.service import Service

FOLDER = Path(__file__).parent / "unit" / "failures" / "records"
_ATTEMPTS = "api/v0/tasks task_id="
_PLACES = (
    (re.compile(r"/[^\s\"'\\=]*?(?=/(?:lib/python[\d.]+|bin/python)\b)"), "/venv"),
    (re.compile(r"/tmp/pytest-[^\s\"'\\]*?/(?:failures|waits)\d+(?=/)"), "/jobs"),
    (re.compile(r"/tmp/rr-\w+(?=/)"), "/tmp"),
)
"""Paths of the machine on which the answers were recorded, and those that are stored."""
_BOUNDS = ("limit", "timeout", "detail", "lines")


def key_of(call: Call) -> str:
    """Return what a request asks for, without its bounds."""
    path, _, query = call.path.partition("?")
    pairs = [(name, value) for name, value in parse_qsl(query) if name not in _BOUNDS]
    columns = [value for name, value in pairs if name == "filter_keys"]
    values = [value for name, value in pairs if name == "filter_values"]
    others = [f"{name}={value}" for name, value in pairs if not name.startswith("filter_")]
    return " ".join([path, *map("=".join, zip(columns, values, strict=True)), *others])


def without_places(text: str) -> str:
    """Return a text without paths of the machine on which it was recorded."""
    for place, stored in _PLACES:
        text = place.sub(stored, text)
    return text


class Recorder:
    """Keeps the answers to the requests of looks."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def note(self, call: Call, answer: Any) -> None:
        """Keep the last answer to a request."""
        if isinstance(answer, RayAgentError):
            answer = {"status": answer.status_code, "detail": answer.detail}
        self.answers[key_of(call)] = answer

    def store(self, name: str, job: Mapping[str, Any]) -> None:
        """Store a job and the answers in a file of this name."""
        FOLDER.mkdir(exist_ok=True)
        text = json.dumps({"job": dict(job), "answers": self.answers}, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(without_places(text) + "\n", encoding="utf-8")


def replayed(name: str, service: Service = RAY) -> tuple[dict[str, Any], FailureLook]:
    """Return the job in a file, and a look at it with the answers in the file."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return stored["job"], look_with(stored["job"], stored["answers"], service)


def look_with(job: Mapping[str, Any], answers: Mapping[str, Any], service: Service = RAY) -> FailureLook:
    """Return a finished look at a job, given answers by :func:`key_of`."""
    look = FailureLook(service, job, now=(ended_at(job) or 0.0) + 1.0)

    async def do(step: Call | Pause) -> Any:
        if not isinstance(step, Call):
            return 0.0
        key = key_of(step)
        if key.startswith(_ATTEMPTS) and key not in answers:
            # All attempts of this task are among the failed ones.
            failed = next(rows for each, rows in answers.items() if each.endswith("state=FAILED"))
            return [row for row in failed if row["task_id"] == key.removeprefix(_ATTEMPTS)]
        answer = answers[key]
        if key.startswith("nodes/"):
            # JSON has no named tuples.
            return NodeUsage(*answer)
        if isinstance(answer, dict) and answer.keys() == {"status", "detail"}:
            raise for_status(answer["status"], answer["detail"])
        return answer

    finish(run_steps(look.steps(), do))
    return look
