"""Start the local agent over a Ray head of its own, and end both.

    with local_agent() as agent:
        job_id = agent.submit("python -c 'print(1)'")
        assert agent.wait(job_id)["status"] == "SUCCEEDED"

Needs a Python with the extra ``local``; imports nothing but the standard library and requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests

START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0
EXAMPLE_PLUGINS = Path(__file__).parents[2] / "example_dags" / "plugins"
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class LocalAgent:
    """A running local agent.

    :param url: base URL, without a trailing slash.
    :param token: the agent token.
    :param ray_address: URL of the Ray dashboard behind it.
    :param ray_token_file: file with the token of that Ray; ``None`` if the agent was given none.
    :param gcs_address: address of the Ray cluster itself, for drivers; ``None`` if not known.
    :param pid: process id of the agent.
    :param output: file with what the agent printed.
    """

    url: str
    token: str
    ray_address: str
    ray_token_file: str | None
    gcs_address: str | None
    pid: int
    output: Path

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send one request with the token; ``options`` are those of ``requests.request``."""
        import requests

        options.setdefault("timeout", 60)
        headers = {"Authorization": self.token, **options.pop("headers", {})}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}/{path}", headers=headers, **options)

    def submit(self, entrypoint: str, **fields: Any) -> str:
        """Submit a job and return its id; ``fields`` are those of Ray's submit call."""
        response = self.request("POST", "jobs/", json={"entrypoint": entrypoint, **fields})
        if not response.ok:
            raise AssertionError(f"submit: {response.status_code} {response.text}")
        return str(response.json()["submission_id"])

    def run(self, lookup: str, action: str, params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Run an action of a plugin and return the agent's answer; ``fields`` are those of the call's body."""
        body = {"action": action, "params": params or {}, **fields}
        response = self.request("POST", f"plugin_releases/{lookup}/run/", json=body)
        if not response.ok:
            raise AssertionError(f"run: {response.status_code} {response.text}")
        answer: dict[str, Any] = response.json()
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the details of a job."""
        response = self.request("GET", f"jobs/{job_id}/")
        response.raise_for_status()
        details: dict[str, Any] = response.json()
        return details

    def wait(self, job_id: str, timeout: float = 90.0, statuses: Sequence[str] = TERMINAL) -> dict[str, Any]:
        """Wait until the job has one of ``statuses``; return its details.

        :param timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        while (details := self.job(job_id))["status"] not in statuses:
            if time.monotonic() > deadline:
                raise AssertionError(f"{job_id} is {details['status']} after {timeout:g} s")
            time.sleep(0.3)
        return details


@contextlib.contextmanager
def local_agent(
    *arguments: str,
    plugins: Path | None = EXAMPLE_PLUGINS,
    max_running_jobs: int | None = None,
    python: str = sys.executable,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[LocalAgent]:
    """Start the local agent as a process, wait until it is ready, yield it, and end it with its Ray.

    :param arguments: more arguments for ``rayagent-local``.
    :param plugins: folder of plugins; ``None``: none.
    :param max_running_jobs: plugin jobs that are on Ray at once; ``None``: the command's own default.
    :param python: a Python that has this package with its extra ``local``.
    :param environment: of the agent; ``None``: that of this process.
    """
    with tempfile.TemporaryDirectory(prefix="rayagent-") as directory:
        info, output = Path(directory, "agent.json"), Path(directory, "agent.log")
        options = {"--info-file": info, "--plugins": plugins, "--max-running-jobs": max_running_jobs}
        given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        process = start_agent(*given, *arguments, output=output, python=python, cwd=cwd, environment=environment)
        try:
            wait_for_file(info, process, output)
            yield LocalAgent(**json.loads(info.read_text(encoding="utf-8")), output=output)
        finally:
            stop_agent(process)


def start_agent(
    *arguments: str,
    output: Path,
    python: str = sys.executable,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``rayagent-local`` in a session of its own, with its output in a file.

    :param environment: ``None``: that of this process.
    """
    with output.open("ab") as stream:
        return subprocess.Popen(
            [python, "-m", "airflow_provider_rayagent.local.cli", *arguments],
            cwd=cwd,
            env={**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def wait_for_file(path: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the agent has written its info file.

    :raises AssertionError: with its output, if it ended or was not ready in time.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            text = output.read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"the local agent did not start (exit code {process.poll()}):\n{text}")
        time.sleep(0.1)


def stop_agent(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Ask the agent to end and return its exit code; kill it if it does not."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
