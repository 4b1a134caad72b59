"""A task whose token is in a file and changes while the job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import Job, ScriptedAgent
from tests.unit.sensors.deferral import WAYS
from tests.unit.supervisor import supervise
from tests.unit.support import TaskInstance, task_log
from tests.unit.token_files import MountedToken

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted import Request
    from tests.unit.support import Connect

OLD, NEW = "old-s3cret-token", "new-s3cret-token"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["agent", "ray"])
def test_a_task_goes_on_with_the_new_token_and_its_log_shows_neither(
    service: Any, way: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted = MountedToken(tmp_path, OLD)
    job = Job(f"begin {OLD}\n", status="RUNNING")

    def change(request: Request) -> None:
        if not request.ended:
            return
        if agent.token == OLD and len(agent.of("GET jobs/j1/")) == 4:
            agent.token = NEW
            mounted.replace(NEW)
        elif not job.is_over and request.status == 200 and NEW in request.headers["authorization"]:
            job.grow(f"end {OLD} {NEW}\n")
            job.set_status("SUCCEEDED")

    ti = TaskInstance()
    supervise(ti, monkeypatch)
    with ScriptedAgent(job, token=OLD, service=service) as agent, task_log() as log:
        agent.on_request = change
        connect(agent, password=None, extra={"token_file": str(mounted.path), "service": service})
        result = WAYS[way](ti, poke_interval=0.3)

    assert result["status"] == "SUCCEEDED"
    shown = "\n".join(log.messages)
    assert "begin ***" in shown
    assert "end *** ***" in shown
    assert OLD not in shown
    assert NEW not in shown
    assert log.warnings == []
