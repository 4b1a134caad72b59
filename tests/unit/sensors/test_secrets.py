"""What must not be shown: secrets in the details of a job that others have submitted, and a token that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.job_secrets import masked_names
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.transport.service_client import ServiceClient
from airflow_provider_rayagent.transport.tail_driver import Follower
from tests.scripted import DEFAULT, Job, Refuse, Reset
from tests.unit.sensors.factory import ending_as
from tests.unit.support import make_context, named
from tests.unit.token_files import MountedToken

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted import Request, Step
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

OLD, NEW = "old-s3cret-token", "new-s3cret-token"


def details_with(secret: str) -> dict[str, Any]:
    env_vars = {"KEY": secret}
    return {"runtime_env": {"env_vars": env_vars}, "metadata": masked_names(env_vars)}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("service", ["agent", "ray"])
@pytest.mark.parametrize("failure", [Refuse(503), Reset()], ids=named)
def test_nothing_is_shown_before_the_details_of_the_job_are_known(
    failure: Step, service: Any, status: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    secret = "value-of-a-variable"
    context = make_context()
    job = Job(
        f"key {secret}\n",
        details=details_with(secret),
        polls=["RUNNING", status],
        message=f"the last line has {secret}",
    )
    serve(job, service=service, answers={"GET jobs/j1/": [failure, failure, DEFAULT]})
    with ending_as(status) as caught:
        assert run(context=context, poke_interval=0.3)["status"] == status
    shown = "\n".join([*log.messages, str(caught and caught.value), str(context["ti"].xcoms)])
    assert "key ***" in shown
    assert ("the last line has ***" in shown) is (status == "FAILED")
    assert secret not in shown


def test_the_secrets_of_a_job_that_takes_the_id_of_another_are_learned() -> None:
    follower = Follower(ServiceClient(read_config(host="http://agent.test")), JobId("j1"), TailSettings())
    for secret in ("first-s3cret", "second-s3cret"):
        follower.on_status({"status": "PENDING", **details_with(secret)})
    assert follower.redact("first-s3cret second-s3cret") == "*** ***"


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
