"""Failures that are provoked on a real Ray of three nodes, and what the provider says caused them."""

from __future__ import annotations

import contextlib
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.failures.explanation import Explanation, explain
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.run import failed_job
from airflow_provider_rayagent.run.failed_job import look_at_failure
from airflow_provider_rayagent.transport import blocking
from tests.local.failing_programs import (
    AGENTS,
    CASES,
    COMMAND,
    DOOMED,
    FULL_DISK,
    LOST,
    LOW_ON_MEMORY,
    ON_HEAD_ONLY,
    SMALL,
    WAITING,
)
from tests.local.looks import RecordingClient
from tests.local.ray_releases import cluster_of
from tests.stack.watch import PATIENCE, wait_until
from tests.tail.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.stack.agent import LocalAgent
    from tests.stack.ray import Cluster

pytestmark = pytest.mark.ray


class Told(NamedTuple):
    job: dict[str, Any]
    explanation: Explanation


@pytest.fixture(scope="module")
def told_by_agent(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What is said about jobs of the local agent after their end."""
    folder = tmp_path_factory.mktemp("failures")
    programs = {name: ON_HEAD_ONLY[name].program for name in AGENTS}
    jobs = {name: agent.submit(command) for name, command in commands(folder, programs).items()}
    environment = {"working_dir": "https://127.0.0.1:1/nothing.zip"}
    jobs[ENVIRONMENT] = agent.submit("true", runtime_env=environment)
    config = read_config(host=agent.url, token=agent.token, extra={})
    return {name: told(config, agent.wait(job_id), AGENTS.get(name, "")) for name, job_id in jobs.items()}


@pytest.fixture(scope="module", params=["newest", "oldest"])
def told_by_ray(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Told]]:
    """What is said about jobs of a plain Ray after their end."""
    folder = tmp_path_factory.mktemp("failures")
    oldest = request.param == "oldest"
    with cluster_of(request.param) as ray:
        # One after the other: nodes that start at once choose the same names for their sockets.
        doomed = ray.add_node(DOOMED, FULL_DISK)
        ray.add_node(SMALL, LOW_ON_MEMORY)
        config = read_config(host=ray.dashboard_url, extra={"service": "ray"})
        record = request.config.getoption("--update-records")
        found = {}

        def look(name: str, job_id: str) -> None:
            RecordingClient.recorder.answers.clear()
            wait_for_end(ray, [job_id])
            job = ray.job(job_id)
            found[name] = told(config, job, CASES[name].told)
            if record:
                RecordingClient.recorder.store(f"{name}-{request.param}", job)

        programs = {name: case.program for name, case in CASES.items() if case.program}
        if oldest:
            # Ray 2.50 still finds the object.
            del programs[LOST]
        submitted = commands(folder, programs)
        waiting = {name: ray.submit(command) for name, command in submitted.items() if name in WAITING}
        command = f"touch {shlex.quote(str(folder / COMMAND))} && sleep 3600"
        waiting[COMMAND] = ray.submit(command, entrypoint_resources={"doomed": 0.1})
        wait_until(
            lambda: all((folder / name).exists() for name in WAITING) or None,
            lambda: f"not all jobs wait: { {name: ray.job(job_id) for name, job_id in waiting.items()} }",
        )
        # One after the other, as a task does: the look is right after the end.
        for name, command in submitted.items():
            if name not in WAITING:
                look(name, ray.submit(command))
        kill_node(doomed)
        for name, job_id in waiting.items():
            look(name, job_id)
        yield found


def told(config: ServiceConfig, job: dict[str, Any], words: str = "") -> Told:
    """Return what is said about a job, as soon as it has these words: a regular expression.

    On a busy machine, Ray's records come later than a task waits for them, and its answers too.
    """
    explanations: list[Explanation] = []

    def look() -> Told | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocking, "BlockingServiceClient", RecordingClient)
            patch.setattr(failed_job, "LOOK_SECONDS", PATIENCE)
            explanation = explain(job, "j1", look_at_failure(config, job), log_is_shown=True)
        explanations.append(explanation)
        return Told(job, explanation) if re.search(words, explanation.text) else None

    return wait_until(look, lambda: f"{words!r} is not said in:\n{explanations[-1].text}")


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
    for name, program in programs.items():
        script = folder / f"{name}.py"
        script.write_text(program, encoding="utf-8")
        found[name] = shlex.join(["python", str(script), str(folder / name)])
    return found


# A package that pip does not find has the same error type, but Ray clones its environment three times first.
ENVIRONMENT = "the working_dir cannot be downloaded"


@pytest.mark.parametrize("name", [*AGENTS, ENVIRONMENT])
def test_the_cause_of_a_failure_is_told_by_an_agent(name: str, told_by_agent: dict[str, Told]) -> None:
    kinds = CASES[name].kinds if name in CASES else (FailureKind.RUNTIME_ENV,)
    assert_told(name, told_by_agent[name], kinds)
    told_of = AGENTS.get(name)
    assert told_of is None or re.search(told_of, told_by_agent[name].explanation.text)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_the_cause_of_a_failure_is_told_by_ray(name: str, told_by_ray: dict[str, Told]) -> None:
    if name not in told_by_ray:
        pytest.skip("does not fail with the oldest Ray")
    case, (_, explanation) = CASES[name], told_by_ray[name]
    assert_told(name, told_by_ray[name], case.kinds)
    lines = explanation.text.split("\n")
    if case.told:
        assert any(re.match(f"  {case.told}", line) for line in lines), explanation.text
    else:
        assert "What Ray recorded:" not in lines, explanation.text
        assert any(line.startswith("Ray recorded no ") for line in lines), explanation.text
    assert case.lines in explanation.text


def assert_told(name: str, found: Told, kinds: tuple[FailureKind | None, ...]) -> None:
    job, explanation = found
    figure(f"{name}: {job['error_type']}, exit code {job['driver_exit_code']}\n{explanation.text}")
    assert job["status"] == "FAILED"
    assert explanation.kind in kinds, job["message"]
    if explanation.kind is not None:
        begin = "The program failed" if FailureKind.PROGRAM in kinds else "Platform failure: "
        assert explanation.text.startswith(begin)
