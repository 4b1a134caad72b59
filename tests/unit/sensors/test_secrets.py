"""The secrets of a job that others have submitted are in its details: no line is shown before these are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.services.job_secrets import masked_names
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.transport.tail_driver import Following
from tests.scripted import DEFAULT, Job, Refuse, Reset
from tests.unit.support import named

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog


def details_with(secret: str) -> dict[str, Any]:
    env_vars = {"KEY": secret}
    return {"runtime_env": {"env_vars": env_vars}, "metadata": masked_names(env_vars)}


@pytest.mark.parametrize("service", ["agent", "ray"])
@pytest.mark.parametrize("failure", [Refuse(503), Reset()], ids=named)
def test_no_line_is_shown_before_the_details_of_the_job_are_known(
    failure: Step, service: Any, run: Run, serve: Serve, log: TaskLog
) -> None:
    secret = "value-of-a-variable"
    job = Job(f"key {secret}\n", details=details_with(secret), polls=["RUNNING", "SUCCEEDED"])
    answers = {"GET jobs/j1/": [failure, failure, DEFAULT]}
    serve(job, service=service, answers=answers)
    assert run(poke_interval=0.3)["status"] == "SUCCEEDED"
    shown = "\n".join(log.messages)
    assert "key ***" in shown
    assert secret not in shown


def test_the_secrets_of_a_job_that_takes_the_id_of_another_are_learned() -> None:
    following = Following(
        read_config(host="http://agent.test"),
        JobId("j1"),
        TailSettings(),
        cursor=None,
        deadline=None,
        clock=lambda: 0.0,
    )
    for secret in ("first-s3cret", "second-s3cret"):
        following.on_status({"status": "PENDING", **details_with(secret)})
    assert following.redact("first-s3cret second-s3cret") == "*** ***"
