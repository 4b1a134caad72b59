"""Failures that are provoked on a real Ray, and what the provider says caused them."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_rayagent.render.failure_kinds import FailureKind, kind_of_job
from airflow_provider_rayagent.render.reasons import explain
from tests.stack.ray import Cluster, cluster
from tests.stack.watch import wait_until
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

DOOMED, SMALL = {"doomed": 1}, {"small": 1}
"""The resources of the node that dies, and of the one that is always low on memory."""
LOW_ON_MEMORY = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
TASK = """
import os, pathlib, signal, sys, time, ray
@ray.remote(max_retries=0, {options})
def task(arguments):
    {body}
ray.get(task.remote(sys.argv))
"""
ACTOR = """
import os, pathlib, signal, sys, time, ray
@ray.remote({options})
class Actor:
    def act(self, arguments):
        {body}
ray.get(Actor.remote().act.remote(sys.argv))
"""
# Only the head has CPUs.
ON_HEAD = "num_cpus=1"
ON_DOOMED, ON_SMALL = (f'num_cpus=0, resources={{"{name}": 0.1}}' for name in (*DOOMED, *SMALL))
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
WAIT = "pathlib.Path(arguments[1]).touch(); time.sleep(3600)"
# Ray learns in any order that a node died, and that the connection to a worker on it is broken.
LOST_NODE = (FailureKind.NODE_DIED, FailureKind.WORKER_LOST)
PROGRAMS: dict[str, tuple[str, FailureKind]] = {
    "exits with code 3": ("import sys; sys.exit(3)", FailureKind.PROGRAM),
    "raises an exception": ("raise ValueError('wrong')", FailureKind.PROGRAM),
    "a task raises an exception": (TASK.format(options=ON_HEAD, body="raise ValueError('wrong')"), FailureKind.PROGRAM),
    "an actor exits": (ACTOR.format(options=ON_HEAD, body="sys.exit(3)"), FailureKind.PROGRAM),
    "a task's worker is killed": (TASK.format(options=ON_HEAD, body=KILL), FailureKind.WORKER_LOST),
    "an actor's worker is killed": (ACTOR.format(options=ON_HEAD, body=KILL), FailureKind.WORKER_LOST),
}
ON_NODES: dict[str, tuple[str, tuple[FailureKind, ...]]] = {
    "a task's node dies": (TASK.format(options=ON_DOOMED, body=WAIT), LOST_NODE),
    "an actor's node dies": (ACTOR.format(options=ON_DOOMED, body=WAIT), LOST_NODE),
    "a task's node is low on memory": (TASK.format(options=ON_SMALL, body=WAIT), (FailureKind.OUT_OF_MEMORY,)),
    "an actor's node is low on memory": (ACTOR.format(options=ON_SMALL, body=WAIT), (FailureKind.OUT_OF_MEMORY,)),
}
# A package that pip does not find has the same error type, but Ray clones its environment three times first.
ENVIRONMENT = "the working_dir cannot be downloaded"
COMMAND = "the command's node dies"
KINDS: dict[str, tuple[FailureKind, ...]] = {
    **{name: (kind,) for name, (_, kind) in PROGRAMS.items()},
    ENVIRONMENT: (FailureKind.RUNTIME_ENV,),
}
KINDS_ON_NODES = {**{name: kinds for name, (_, kinds) in ON_NODES.items()}, COMMAND: LOST_NODE}
WAITING = [name for name in KINDS_ON_NODES if "node dies" in name]
Jobs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ended(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """The details of the jobs on the head after their end."""
    folder = tmp_path_factory.mktemp("failures")
    programs = {name: program for name, (program, _) in PROGRAMS.items()}
    jobs = {name: agent.submit(command) for name, command in commands(folder, programs).items()}
    environment = {"working_dir": "https://127.0.0.1:1/nothing.zip"}
    jobs[ENVIRONMENT] = agent.submit("true", runtime_env=environment)
    return {name: agent.wait(job_id) for name, job_id in jobs.items()}


@pytest.fixture(scope="module")
def ended_on_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The details of the jobs on the other nodes after their end."""
    folder = tmp_path_factory.mktemp("failures")
    with cluster() as ray:
        # One after the other: nodes that start at once choose the same names for their sockets.
        doomed = ray.add_node(DOOMED)
        ray.add_node(SMALL, LOW_ON_MEMORY)
        programs = {name: program for name, (program, _) in ON_NODES.items()}
        jobs = {name: ray.submit(command) for name, command in commands(folder, programs).items()}
        command = f"touch {shlex.quote(str(folder / COMMAND))} && sleep 3600"
        jobs[COMMAND] = ray.submit(command, entrypoint_resources={"doomed": 0.1})
        wait_until(lambda: all((folder / name).exists() for name in WAITING) or None, "not all jobs wait")
        # Otherwise the log of the dead raylet, which all running programs print, can displace their exceptions.
        wait_for_end(ray, [job_id for name, job_id in jobs.items() if name not in WAITING])
        kill_node(doomed)
        wait_for_end(ray, list(jobs.values()))
        yield {name: ray.job(job_id) for name, job_id in jobs.items()}


def kill_node(raylet: psutil.Process) -> None:
    """Kill a raylet and its workers; those that execute something would survive it."""
    for process in [raylet, *raylet.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for_end(ray: Cluster, job_ids: list[str]) -> None:
    wait_until(
        lambda: all(ray.job(job_id)["status"] in ("FAILED", "SUCCEEDED") for job_id in job_ids) or None,
        lambda: f"not all jobs end: {[ray.job(job_id) for job_id in job_ids]}",
    )


def commands(folder: Path, programs: Mapping[str, str]) -> dict[str, str]:
    """Return the commands of programs; those that are to die create a file with their name when they run."""
    found = {}
    for number, (name, program) in enumerate(programs.items()):
        script = folder / f"program_{number}.py"
        script.write_text(program, encoding="utf-8")
        found[name] = shlex.join(["python", str(script), str(folder / name)])
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_cause_of_a_failure_is_told(name: str, ended: Jobs) -> None:
    assert_told(name, ended[name], KINDS[name])


@pytest.mark.full
@pytest.mark.parametrize("name", KINDS_ON_NODES)
def test_the_cause_of_a_failure_on_another_node_is_told(name: str, ended_on_nodes: Jobs) -> None:
    assert_told(name, ended_on_nodes[name], KINDS_ON_NODES[name])


def assert_told(name: str, job: dict[str, Any], kinds: tuple[FailureKind, ...]) -> None:
    first = explain(job, "j1", log_is_shown=True).split("\n")[0]
    figure(f"{name}: {job['error_type']}, exit code {job['driver_exit_code']}: {first}")
    assert job["status"] == "FAILED"
    assert kind_of_job(job) in kinds, job["message"]
    assert first.startswith("The program failed" if FailureKind.PROGRAM in kinds else "Platform failure: ")
