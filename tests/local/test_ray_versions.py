"""The oldest supported Ray and the newest one, with and without a token: every line once, and every other method.

Ray 2.50 has no tokens: it ignores the one of a connection.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentHTTPError,
    RayAgentResourcesError,
    RayAgentUnsupportedError,
)
from airflow_provider_rayagent.exceptions import RayAgentRunFailedError
from airflow_provider_rayagent.hooks.connection_check import Result, check_connection
from airflow_provider_rayagent.local.ports import free_ports
from airflow_provider_rayagent.services.call import FileContent, finish
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.log_responses import read_whole_log
from airflow_provider_rayagent.working_dir.packing import pack
from tests.local.test_following import DRIVERS, OVER_RAY, PRINTED, PROGRAMS, Followed, entrypoint
from tests.local.test_ray_task import (
    assert_names_the_lines_of_the_ray_task,
    fails_in_a_task,
    run_function,
    sums_squares,
)
from tests.stack.interpreters import interpreter
from tests.stack.job_logs import lines_of_program
from tests.stack.ray import Cluster, cluster
from tests.stack.serve import DEPLOY
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.full]

TOKEN = "ray-versions"
LABELS = "zone=a"
APPLICATION = "versions"
# Ray may lose the last second of a driver's reports about its tasks, so this driver ends when they are there.
TASK = """
import ray, time
from ray.util.state import list_tasks
ray.get(ray.remote(lambda: 1).remote())
while not list_tasks():
    time.sleep(0.2)
"""
SUBMITTED = """
import os, package, ray
@ray.remote
def word(): return package.WORD
print(f"{package.WORD}, {os.environ['WORD']}, and in a task: {ray.get(word.remote())}")
"""
WORDS = {"failed": "exit code 3", "environment": "runtime"}
"""In the messages of jobs that failed."""
STATUSES = {**dict.fromkeys(PROGRAMS, "SUCCEEDED"), "stopped": "STOPPED", "failed": "FAILED", "environment": "FAILED"}


@dataclass(frozen=True)
class Head:
    """A head, and the tokens of the connections to it.

    :param version: how its version begins.
    :param token: the token that it requires.
    """

    version: str
    token: str | None
    sent: tuple[str | None, ...]


HEADS = {
    "oldest": Head("2.50.", None, (None, TOKEN)),
    "newest-open": Head("2.", None, (None, TOKEN)),
    "newest-token": Head("2.", TOKEN, (TOKEN,)),
}
FOLLOWED = "oldest"
"""The head whose jobs are followed; :mod:`tests.local.test_following` does so with the newest Ray."""


@dataclass
class Running:
    """A running head, and its jobs by name."""

    head: Head
    ray: Cluster
    jobs: dict[str, str]

    def config(self, token: str | None) -> ServiceConfig:
        return read_config(host=self.ray.dashboard_url, token=token, extra={"service": "ray"})

    def expected(self, name: str) -> list[str]:
        if name == "environment":
            # Why it failed is in the job's message; Ray appends it to the log as well, after the job has ended.
            return []
        lines = self.ray.log_file(self.jobs[name]).read_bytes().decode("utf-8", "replace").split("\n")
        return lines[:-1] if lines[-1] == "" else lines


@pytest.fixture(scope="module", params=HEADS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A head with a job that deploys a Serve application and runs a Ray task, and the jobs that are to be followed."""
    head = HEADS[request.param]
    oldest = request.param == "oldest"
    python = interpreter("RAYAGENT_OLDEST_RAY_PYTHON", "ray") if oldest else sys.executable
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        ray = stack.enter_context(cluster(token=head.token, python=python, labels=LABELS))
        while oldest and not ray.survives_its_start():
            stack.close()
            ray = stack.enter_context(cluster(token=head.token, python=python, labels=LABELS))
        jobs: dict[str, str] = {}
        if request.param == FOLLOWED:
            jobs |= {name: ray.submit(entrypoint(directory, name)) for name in PROGRAMS}
            environment = {"working_dir": "https://127.0.0.1:1/nothing.zip"}
            jobs["environment"] = ray.submit("echo never", runtime_env=environment)
        deploy(ray, directory)
        yield Running(head, ray, jobs)


def deploy(ray: Cluster, directory: Path) -> None:
    script = directory / "deploy.py"
    script.write_text(DEPLOY + TASK, encoding="utf-8")
    ray.submit(shlex.join(["python", str(script), str(free_ports(1)[0]), APPLICATION]))


Results = dict[tuple[str, str], Followed]
"""By job and driver."""


@pytest.fixture(scope="module")
def results(running: Running) -> Results:
    """The results of all jobs, followed at the same time with each driver, which has a token of the head's or none."""
    tokens = itertools.cycle(running.head.sent)
    cells = list(itertools.product(running.jobs, OVER_RAY))
    with ThreadPoolExecutor(len(cells)) as pool:
        futures = {
            (name, key): pool.submit(
                DRIVERS[key].follow, running.config(next(tokens)), running.jobs[name], DRIVERS[key].sources
            )
            for name, key in cells
        }
        stop_when_it_waits(running)
        return {cell: future.result(timeout=PATIENCE) for cell, future in futures.items()}


def stop_when_it_waits(running: Running) -> None:
    job_id = JobId(running.jobs["stopped"])
    with BlockingServiceClient(running.config(running.head.token)) as client:
        wait_until(lambda: finish(read_whole_log(client, job_id)).count("waits\n") or None, f"{job_id} does not wait")
        assert client.send(client.config.service.stop_job(job_id)) == {"stopped": True}


@pytest.mark.parametrize("running", [FOLLOWED], indirect=True)
@pytest.mark.parametrize("driver", OVER_RAY)
@pytest.mark.parametrize("name", STATUSES)
def test_every_line_is_received_once_and_the_status_is_right(
    running: Running, results: Results, name: str, driver: str
) -> None:
    followed = results[name, driver]

    assert followed.end is End.JOB_ENDED
    assert followed.is_whole
    assert followed.notices == []
    assert followed.job["status"] == STATUSES[name]
    assert WORDS.get(name, "") in (followed.job["message"] or "").lower()
    assert followed.lines == running.expected(name)
    if name in PRINTED:
        assert lines_of_program(followed.lines, followed.job) == PRINTED[name]


def test_every_other_method_works(running: Running) -> None:
    for token in running.head.sent:
        with BlockingServiceClient(running.config(token)) as client:
            service = client.config.service

            assert client.send(service.health_check())["status"] == "ok"
            assert set(running.jobs.values()) <= {job["submission_id"] for job in client.send(service.list_jobs())}
            (node,) = client.send(service.list_nodes())
            assert client.send(service.get_node(node["node_id"]))["state"] == "ALIVE"
            assert client.send(service.get_gpu_status())
            connection, _ = check_connection(client)
            assert connection.result is Result.OK
            assert connection.text.startswith(f"Connected to Ray's own dashboard ({running.head.version}")


def test_a_task_is_listed(running: Running) -> None:
    with BlockingServiceClient(running.config(running.head.sent[-1])) as client:
        service = client.config.service
        task: dict[str, Any] = wait_until(lambda: next(iter(client.send(service.list_tasks())), None), "no task")
        assert client.send(service.get_task(task["task_id"]))["task_id"] == task["task_id"]


def test_a_serve_application_is_listed_and_deleted(running: Running) -> None:
    with BlockingServiceClient(running.config(running.head.sent[-1])) as client:
        service = client.config.service

        def statuses() -> dict[str, str]:
            return {each["name"]: each["status"] for each in client.send(service.list_serve_applications())}

        wait_until(lambda: statuses() == {APPLICATION: "RUNNING"} or None, lambda: f"applications: {statuses()}")
        client.send(service.delete_serve_application(APPLICATION))
        wait_until(lambda: statuses() == {} or None, lambda: f"applications: {statuses()}")


def test_a_job_is_submitted_once_with_its_files_and_its_environment(running: Running, tmp_path: Path) -> None:
    token = running.head.sent[-1]
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("WORD = 'packed'\n", encoding="utf-8")
    (tmp_path / "main.py").write_text(SUBMITTED, encoding="utf-8")
    with BlockingServiceClient(running.config(token)) as client, pack(tmp_path, root=tmp_path) as package:
        service, content = client.config.service, FileContent(package.file, package.size)
        uploads = [client.send(service.upload_package(package.name, content)) for _ in range(2)]
        submission = {"runtime_env": {"working_dir": package.uri, "env_vars": {"WORD": "from the environment"}}}
        client.send(service.submit_job("python main.py", job_id="submitted", entrypoint_num_cpus=0.1, **submission))
        with pytest.raises(RayAgentHTTPError, match="already exists") as raised:
            client.send(service.submit_job("python main.py", job_id="submitted"))
        with pytest.raises(RayAgentResourcesError):
            client.send(service.submit_job("true", entrypoint_memory=10**15))
    followed = DRIVERS[OVER_RAY[0]].follow(running.config(token), "submitted", DRIVERS[OVER_RAY[0]].sources)

    assert uploads == [True, False]
    assert raised.value.status_code == CONFLICT
    assert followed.job["status"] == "SUCCEEDED", followed.job["message"]
    assert "packed, from the environment, and in a task: packed" in followed.lines


def test_a_job_runs_where_the_labels_are_that_it_needs(running: Running) -> None:
    with BlockingServiceClient(running.config(running.head.sent[-1])) as client:
        submit = client.config.service.submit_job

        def status(job_id: str) -> str:
            return str(running.ray.job(job_id)["status"])

        if running.head.version == HEADS["oldest"].version:
            with pytest.raises(RayAgentUnsupportedError, match="too old for entrypoint_label_selector"):
                client.send(submit("true", job_id="elsewhere", entrypoint_label_selector={"zone": "b"}))
            return
        client.send(submit("true", job_id="elsewhere", entrypoint_label_selector={"zone": "b"}))
        client.send(submit("true", job_id="here", entrypoint_label_selector={"zone": "a"}))
        wait_until(lambda: status("here") == "SUCCEEDED" or None, lambda: f"the job is {status('here')}")
        assert status("elsewhere") == "PENDING"


def test_a_function_of_a_dag_file_runs_on_it(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ("ray", running.ray.dashboard_url, running.head.sent[-1])
    options: dict[str, Any] = (
        {} if running.head.version == HEADS["oldest"].version else {"label_selector": {"zone": "a"}}
    )
    returned = run_function(sums_squares, {"numbers": [1, 2, 3]}, server, monkeypatch, **options)
    assert returned == {"sum": 14, "task": "sums_squares"}
    with pytest.raises(RayAgentRunFailedError) as raised:
        run_function(fails_in_a_task, {}, server, monkeypatch)
    assert_names_the_lines_of_the_ray_task(raised.value)
