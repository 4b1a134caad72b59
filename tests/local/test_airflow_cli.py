"""``airflow rayagent`` as a process, over the local agent and over its Ray's dashboard."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.commands import airflow, environment, finish, start_airflow
from tests.stack.job_logs import lines_of_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import CompletedProcess

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

LINES = [f"line {number}" for number in range(300)]
PRINT = f"python -c \"print(*(f'line {{n}}' for n in range({len(LINES)})), sep='\\\\n')"


@pytest.fixture(scope="module", params=["agent", pytest.param("ray", marks=pytest.mark.full)])
def service(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def env(agent: LocalAgent, service: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a command, with the connection to a service."""
    home: Path = tmp_path_factory.mktemp("airflow")
    token = Path(str(agent.ray_token_file)).read_text(encoding="utf-8").strip()
    connections: dict[str, dict[str, Any]] = {
        "agent": {"host": agent.url, "password": agent.token},
        "ray": {"host": agent.ray_address, "password": token, "extra": {"service": "ray"}},
    }
    return environment(home, rayagent_default=connections[service])


def run(env: Mapping[str, str], *arguments: str) -> CompletedProcess[str]:
    return airflow("rayagent", *arguments, env=dict(env))


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        (f'{PRINT}"', 0, "is SUCCEEDED"),
        pytest.param(f'{PRINT}; raise SystemExit(3)"', 1, "The program failed: exit code 3.", marks=pytest.mark.full),
        (f'{PRINT}; import time; time.sleep(3600)"', 3, "ended as STOPPED"),
    ],
    ids=["SUCCEEDED", "FAILED", "STOPPED"],
)
def test_a_job_is_followed_to_its_outcome(
    agent: LocalAgent, env: dict[str, str], program: str, code: int, words: str
) -> None:
    job_id = agent.submit(program)
    with start_airflow("rayagent", "logs", "-f", job_id, env=env) as process:
        assert process.stdout is not None
        # They may include Ray's own two.
        first = [process.stdout.readline() for _ in range(len(LINES))]
        if code == 3:
            stopped = run(env, "stop", "-y", job_id)
            assert stopped.returncode == 0, stopped.stderr
        rest, err = finish(process)
    assert process.returncode == code, err
    printed = "".join((*first, rest)).splitlines()
    assert lines_of_program(printed, agent.job(job_id)) == LINES
    assert words in err
    assert run(env, "logs", job_id).stdout.splitlines() == printed


def test_ctrl_c_leaves_the_job_alone(agent: LocalAgent, env: dict[str, str]) -> None:
    # In one piece, into which Ray cannot write.
    job_id = agent.submit("python -uc \"import sys, time; sys.stdout.write('started\\n'); time.sleep(3600)\"")
    try:
        with start_airflow("rayagent", "logs", "-f", job_id, env=env) as process:
            assert process.stdout is not None
            while process.stdout.readline() != "started\n":
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, err = finish(process)
        assert process.returncode == 130
        assert err.splitlines()[-1] == f"No longer following job {job_id}, which was not stopped."
        assert agent.job(job_id)["status"] == "RUNNING"
    finally:
        agent.request("POST", f"jobs/{job_id}/stop/")


def test_tables_have_what_ray_has(agent: LocalAgent, env: dict[str, str], finished_job: dict[str, Any]) -> None:
    jobs = json.loads(run(env, "jobs", "-o", "json", "--limit", "1000").stdout)
    assert jobs == sorted(jobs, key=lambda job: job["start_time"], reverse=True)
    [job] = [job for job in jobs if job["job_id"] == finished_job["submission_id"]]
    assert job["status"] == "SUCCEEDED"
    [node] = json.loads(run(env, "nodes", "-o", "json").stdout)
    assert (node["state"], node["is_head"]) == ("ALIVE", "True")
    gpus = run(env, "gpus", "-o", "json")
    assert gpus.stdout == "[]\n"
    assert gpus.stderr.startswith("Free in the cluster: 0 of 0 GPUs, ")
    assert run(env, "apps", "-o", "json").stdout == "[]\n"


@pytest.mark.parametrize("service", ["agent", "ray"], indirect=True)
def test_doctor_finds_nothing_wrong(env: dict[str, str], service: str, finished_job: dict[str, Any]) -> None:
    done = run(env, "doctor", "--job-id", finished_job["submission_id"])
    assert done.returncode == 0, done.stdout
    results = {line[9:19].strip(): line.split()[0] for line in done.stdout.splitlines()}
    streams = "ok" if service == "agent" else "-"
    assert (results["connection"], results["job log"]) == ("ok", "ok")
    assert (results["WebSocket"], results["SSE"]) == (streams, streams)
    assert ("Ray 2." if service == "agent" else "Ray's own dashboard (2.") in done.stdout
