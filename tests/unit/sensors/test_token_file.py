"""A task whose token is in a file and changes while the job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import Job
from tests.unit.token_files import MountedToken

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted import Request
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

OLD, NEW = "old-s3cret-token", "new-s3cret-token"


@pytest.mark.parametrize("service", ["agent", "ray"])
def test_a_task_goes_on_with_the_new_token_and_its_log_shows_neither(
    service: Any, run: Run, serve: Serve, log: TaskLog, tmp_path: Path
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

    agent = serve(job, token=OLD, service=service, password=None, extra={"token_file": str(mounted.path)})
    agent.on_request = change
    assert run(poke_interval=0.3)["status"] == "SUCCEEDED"
    shown = "\n".join(log.messages)
    assert "begin ***" in shown
    assert "end *** ***" in shown
    assert OLD not in shown
    assert NEW not in shown
    assert log.warnings == []
