"""Orphans in the page and on the command line, with Airflow's real database."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id
from airflow_provider_rayagent.run.job_origin import IDENTITY, WAITS
from tests.scripted import Answer, Job
from tests.stack.commands import airflow
from tests.stack.watch import wait_until
from tests.ui.conftest import NAMESPACE, TOKEN, ask

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from tests.scripted import ScriptedAgent
    from tests.stack.api_server import ApiServer
    from tests.ui.stored_task import StoredTask

COMMAND = ("rayagent", "orphans", "--conn-id", "ray_own")


@pytest.fixture
def task(follower: StoredTask) -> StoredTask:
    return replace(follower, task_id="submit")


@pytest.fixture
def job(task: StoredTask, ray: ScriptedAgent) -> Job:
    """A job that runs, of the task, beside one of nobody."""
    key = (task.dag_id, task.run_id, task.task_id, "-1")
    metadata = {**dict(zip(IDENTITY, key, strict=True)), WAITS: "True"}
    job = Job("", "RUNNING", derived_id(key, NAMESPACE), details={"metadata": metadata})
    ray.jobs = {each.job_id: each for each in (job, Job("", "RUNNING", "of-a-user"))}
    return job


def end(task: StoredTask, *, minutes: float = 11, run_state: str = "failed") -> None:
    """Store that the task has ended, so many minutes ago."""
    task.set("failed", ended=time.time() - 60 * minutes, run_state=run_state)


def run(server: ApiServer, *arguments: str) -> CompletedProcess[str]:
    done = airflow(*COMMAND, *arguments, env=dict(server.env))
    assert done.returncode == 0, done.stderr
    return done


def test_the_page_shows_only_the_orphans(
    server: ApiServer, tokens: dict[str, str | None], task: StoredTask, job: Job, follower: StoredTask
) -> None:
    def shown() -> list[str]:
        answer = ask(server, "GET", "api/connections/ray_own/jobs", tokens["editor"], params={"orphans": "true"})
        return [each["job_id"] for each in answer.json()["jobs"]]

    end(task)
    wait_until(lambda: shown() == [job.job_id] or None, "the orphan is not shown")
    follower.set("deferred", rayagent_conn_id="ray_a", job_id=job.job_id)
    wait_until(lambda: shown() == [] or None, "a job that is followed is shown as an orphan")
    follower.set("failed", rayagent_conn_id="ray_a", job_id="running")


def test_orphans_are_stopped_and_no_other_job(
    server: ApiServer, task: StoredTask, job: Job, ray: ScriptedAgent
) -> None:
    end(task, run_state="running")
    done = run(server, "--stop", "--yes", "-o", "json")
    assert "0 of 2 jobs" in done.stderr
    reasons = {row["job_id"]: row["left_because"] for row in json.loads(done.stdout)}
    assert reasons == {job.job_id: "its task or its run has not ended", "of-a-user": "its metadata names no task"}

    end(task)
    listed = run(server, "-o", "json")
    assert [row["job_id"] for row in json.loads(listed.stdout) if row["orphan"] == "True"] == [job.job_id]
    assert job.stop_calls == 0
    stopped = run(server, "--stop", "--yes")
    assert f"Requested the stop of job {job.job_id}." in stopped.stderr
    assert [each.stop_calls for each in ray.jobs.values()] == [1, 0]


def test_a_stop_is_to_be_confirmed_and_examines_each_job_again(
    server: ApiServer, task: StoredTask, job: Job, ray: ScriptedAgent
) -> None:
    end(task)
    lists: list[Any] = []

    def clear(request: Any) -> None:
        # At the request for the details, which follows the confirmation.
        if request.path == f"jobs/{job.job_id}/" and not lists:
            lists.append(request)
            task.set(None, run_state="running")

    ray.on_request = clear
    try:
        done = run(server, "--stop", "--yes")
    finally:
        ray.on_request = bool
    assert f"Job {job.job_id} is left: its task or its run has not ended." in done.stderr
    assert job.stop_calls == 0


@pytest.mark.full
def test_a_stop_that_the_service_refuses_is_told(
    server: ApiServer, task: StoredTask, job: Job, ray: ScriptedAgent
) -> None:
    end(task)
    ray.answers[f"POST jobs/{job.job_id}/stop/"] = [Answer(200, {"stopped": False})]
    done = run(server, "--stop", "--yes")
    assert f"Job {job.job_id} is left: the service did not stop it." in done.stderr


@pytest.mark.full
def test_the_database_is_needed(server: ApiServer, ray: ScriptedAgent, job: Job) -> None:
    secret = "password-of-the-database"
    env = {**server.env, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://u:{secret}@127.0.0.1:1/none"}
    connection = {"conn_type": "rayagent", "host": ray.url, "password": TOKEN, "extra": {"service": "ray"}}
    done = airflow(*COMMAND, env=env | {"AIRFLOW_CONN_RAY_OWN": json.dumps(connection)})
    assert (done.returncode, done.stdout) == (2, ""), done.stderr[-3000:]
    assert "Airflow's database cannot be read" in done.stderr
    assert secret not in done.stderr + done.stdout
