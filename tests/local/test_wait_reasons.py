"""Jobs that wait on a real Ray of three nodes, and what the provider says of it."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.run.wait_watch import reason_of_wait
from tests.local.looks import RecordingClient, patient_looks
from tests.local.ray_releases import cluster_of
from tests.local.waiting_programs import CASES, HELD_CPUS, IMPORTS, NODES, SLOW_PIP
from tests.stack.watch import wait_until
from tests.tail.figures import figure
from tests.wait_records import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent
    from tests.stack.ray import Cluster

pytestmark = pytest.mark.ray

HOLDER = "holder"


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    with patient_looks():
        yield


@pytest.fixture(scope="module", params=["newest", "oldest"])
def told_by_ray(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What is said of each job."""
    folder = tmp_path_factory.mktemp("waits")
    # It accepts connections, and never responds.
    with closing(socket.create_server(("127.0.0.1", 0))) as index, cluster_of(request.param) as ray:
        # One after the other: nodes that start at once choose the same names for their sockets.
        for resources in NODES:
            ray.add_node(resources)
        ray.submit("sleep 3600", submission_id=HOLDER, entrypoint_num_cpus=HELD_CPUS)
        wait_until(partial(runs, ray, HOLDER), "the holder does not start")
        url = f"http://127.0.0.1:{index.getsockname()[1]}"
        for name, case in CASES.items():
            script = folder / f"{name}.py"
            script.write_text(f"{IMPORTS}{case.program}".replace(SLOW_PIP, url), encoding="utf-8")
            command = shlex.join(["python", str(script), str(folder / name)]) if case.program else "sleep 3600"
            submission = json.loads(json.dumps(case.submission).replace(SLOW_PIP, url))
            ray.submit(command, submission_id=name, **submission)
        config = read_config(host=ray.dashboard_url, extra={"service": "ray"})
        told = {}
        for name, case in CASES.items():
            if case.program:
                wait_until(partial(runs, ray, name), f"{name} does not start")
            if not case.told:
                wait_until(partial(exists, folder / name), f"{name} does not begin")
            told[name] = said_of(config, name, partial(ray.job, name), case.told)
            if request.config.getoption("--update-records"):
                store(f"{name}-{request.param}", name, ray.job(name), RecordingClient.recorder.answers, told[name])
        yield told


def runs(ray: Cluster, job_id: str) -> bool | None:
    return ray.job(job_id)["status"] == "RUNNING" or None


def exists(path: Path) -> bool | None:
    return path.exists() or None


def said_of(config: ServiceConfig, job_id: str, job: Callable[[], dict[str, Any]], told: str) -> str:
    """Return what is said of a job, as soon as it is what is to be told."""
    said: list[str] = []

    def look() -> str | None:
        RecordingClient.recorder.answers.clear()
        reason = reason_of_wait(config, job_id, job())
        said.append(reason.text if reason else "")
        return said[-1] if re.match(told or "$", said[-1]) else None

    if told:
        wait_until(look, lambda: f"{told!r} is not said of {job_id}, but {said[-1]!r}")
    else:
        # Ray lists tasks a second after their start.
        for _ in range(3):
            assert look() is not None, f"{said[-1]!r} is said of {job_id}"
            time.sleep(1)
    figure(f"{job_id}: {said[-1] or 'nothing'}")
    return said[-1]


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_ray_tells_why_a_job_waits(name: str, told_by_ray: dict[str, str]) -> None:
    assert re.match(CASES[name].told or "$", told_by_ray[name])


def test_an_agent_tells_what_is_free_for_a_job_that_waits(agent: LocalAgent) -> None:
    config = read_config(host=agent.url, token=agent.token, extra={})
    job_id = agent.submit("sleep 3600", entrypoint_resources={"unicorn": 1})
    told = r"it has not started\. Free in the cluster: [\d.]+ of [\d.]+ GPUs, "
    said_of(config, job_id, partial(agent.job, job_id), told)
    agent.request("POST", f"jobs/{job_id}/stop/")


def test_ray_tells_that_no_node_has_the_label_of_a_job(agent: LocalAgent) -> None:
    token = Path(str(agent.ray_token_file)).read_text(encoding="utf-8").strip()
    config = read_config(host=agent.ray_address, token=token, extra={"service": "ray"})
    job_id = agent.submit("sleep 3600", entrypoint_label_selector={"zone": "us-west"})
    told = "it requires a node with the label zone=us-west; no node has it$"
    said_of(config, job_id, partial(agent.job, job_id), told)
    agent.request("POST", f"jobs/{job_id}/stop/")


def test_an_agent_tells_which_tasks_of_a_job_wait(agent: LocalAgent, tmp_path: Path) -> None:
    config = read_config(host=agent.url, token=agent.token, extra={})
    script = tmp_path / "waits.py"
    script.write_text(IMPORTS + CASES["an_actor_without_its_gpu"].program, encoding="utf-8")
    job_id = agent.submit(shlex.join([sys.executable, str(script)]))
    agent.wait(job_id, ("RUNNING",))
    told = r"1 of its tasks and actors waits for a node, such as Trainer\. Free in the cluster: "
    said_of(config, job_id, partial(agent.job, job_id), told)
    # Other tests expect that nothing else waits.
    agent.request("POST", f"jobs/{job_id}/stop/")
    agent.wait(job_id)
