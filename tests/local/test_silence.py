"""Jobs that write nothing on a real Ray of two nodes: what the provider says of them, and which have stalled."""

from __future__ import annotations

import re
import shlex
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from airflow_provider_rayagent.activity.silence_look import look_at_silence
from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.run import silence_watch
from airflow_provider_rayagent.run.job_watch import JobWatch
from airflow_provider_rayagent.run.record_looks import start_look
from airflow_provider_rayagent.run.silence_watch import StallSettings
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
from tests.local.looks import patient_looks
from tests.local.ray_releases import cluster_of
from tests.local.silent_programs import CASES, NODE
from tests.stack.watch import PATIENCE, wait_until
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent
    from tests.stack.ray import Cluster

pytestmark = pytest.mark.ray

AFTER, TIMEOUT = 6.0, 10.0
HEALTHY_SECONDS = 30.0


class Told(NamedTuple):
    """What came of following a job.

    :param lines: of the task log.
    :param stall: what the error says, if the job has stalled.
    """

    end: End | None
    lines: list[str]
    stall: str


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    with patient_looks() as patch:
        patch.setattr(silence_watch, "APART_SECONDS", 5.0)
        patch.setattr(silence_watch, "SETTLE_SECONDS", 2.0)
        yield


@pytest.fixture(scope="module", params=["newest", "oldest"])
def told_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Told]]:
    """What is said of each job, and of one whose log has lines."""
    folder = tmp_path_factory.mktemp("silences")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_DASHBOARD_ENABLE_PROFILING", "1")
        # Ray asks its workers more often how many tasks they have executed.
        patch.setenv("NODE_STATS_UPDATE_INTERVAL_SECONDS", "1")
        with cluster_of(request.param) as ray:
            ray.add_node(NODE)
            for name, case in CASES.items():
                script = folder / f"{name}.py"
                script.write_text(case.source, encoding="utf-8")
                command = shlex.join(["python", str(script)]) if case.program else "sleep 3600"
                ray.submit(command, submission_id=name)
            config = read_config(host=ray.dashboard_url, extra={"service": "ray"})
            for name in CASES:
                wait_until(partial(begins, ray, name), f"{name} does not begin")
                wait_until(partial(is_listed, config, ray, name), f"Ray does not list what runs of {name}")
            yield {name: follow(config, name, ends=bool(case.parts)) for name, case in CASES.items()}


def begins(ray: Cluster, job_id: str) -> bool | None:
    job = ray.job(job_id)
    return (job["status"] == "RUNNING" and (bool(job["job_id"]) or not CASES[job_id].program)) or None


def is_listed(config: ServiceConfig, ray: Cluster, job_id: str) -> bool | None:
    """Return whether Ray lists all that is to be told: it asks its nodes for their processes now and then."""
    look = partial(
        look_at_silence, job=ray.job(job_id), counts=False, before=None, tells=True, takes_stacks=False, redact=str
    )
    said, expected = start_look(config, look).result(PATIENCE).parts, CASES[job_id].parts
    return (len(said) >= len(expected) and all(map(re.fullmatch, expected, said))) or None


def follow(config: ServiceConfig, job_id: str, *, ends: bool) -> Told:
    """Follow a job until it has stalled, or for some seconds; return what is told."""
    told: list[str] = []
    watch = JobWatch(config, job_id, StallSettings(AFTER, TIMEOUT, stacks=True))
    stopped = threading.Event()
    timer = threading.Timer(PATIENCE if ends else HEALTHY_SECONDS, stopped.set)
    timer.start()
    settings = TailSettings(poll_interval=1.0)
    with BlockingServiceClient(config) as client:
        follower = BlockingFollower(client, JobId(job_id), settings, stopped=stopped)
        for _ in follower.blocking_items():
            told += [record.text for record in watch.records(follower)]
    watch.close()
    timer.cancel()
    for line in told:
        figure(line)
    return Told(follower.end, told, follower.stall)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.parts])
def test_what_runs_of_a_silent_job_is_told(name: str, told_of: dict[str, Told]) -> None:
    case, told = CASES[name], told_of[name]
    assert told.end is End.STALLED
    assert re.fullmatch(rf"Job {name} has written nothing for \d+ seconds\. What runs:", told.lines[0])
    assert len(told.lines) > len(case.parts)
    for line, part in zip(told.lines[1:], case.parts, strict=False):
        assert re.fullmatch(f"  {part}", line)
    assert all(re.search(part, told.stall) for part in case.parts)
    text = "\n".join(told.lines)
    assert re.search(case.frame, text)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.parts])
def test_nothing_is_told_of_a_job_that_goes_on(name: str, told_of: dict[str, Told]) -> None:
    assert told_of[name] == Told(None, [], "")


def test_an_agent_tells_what_runs_of_a_silent_job(agent: LocalAgent, tmp_path: Path) -> None:
    config = read_config(host=agent.url, token=agent.token, extra={})
    script = tmp_path / "silent.py"
    script.write_text(CASES["tasks_that_hang"].source, encoding="utf-8")
    job_id = agent.submit(shlex.join([sys.executable, str(script)]))
    agent.wait(job_id, ("RUNNING",))
    told = follow(config, job_id, ends=True)
    agent.request("POST", f"jobs/{job_id}/stop/")
    agent.wait(job_id)
    assert told.end is End.STALLED
    assert re.match(r"  2 tasks load_block, the first since ", told.lines[1])
