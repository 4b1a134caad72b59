"""Run the local agent with its own Ray head.

    with local_agent() as agent:
        job_id = agent.submit("python -c 'print(1)'")
        assert agent.wait(job_id)["status"] == "SUCCEEDED"

Requires a Python with the extra ``local``; imports only the standard library and requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack.watch import (
    PATIENCE,
    ServerDiedError,
    check_servers,
    check_servers_soon,
    tail,
    unwatch,
    wait_until,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import requests

STOP_TIMEOUT = 30.0
"""Seconds that the agent has to stop its Ray in tests of something else."""
EXAMPLE_PLUGINS = Path(__file__).parents[2] / "example_dags" / "plugins"
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class LocalAgent:
    """A running local agent.

    :param url: base URL, without a trailing slash.
    :param token: the agent token.
    :param ray_address: URL of the Ray dashboard behind it.
    :param ray_token_file: file with the token of that Ray; ``None`` if the agent was started without one.
    :param gcs_address: GCS address of the Ray cluster, for drivers; ``None`` if unknown.
    :param pid: process id of the agent.
    :param output: file with the agent's output.
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

        check_servers()
        options.setdefault("timeout", PATIENCE)
        headers = {"Authorization": self.token, **options.pop("headers", {})}
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.request(method, f"{self.url}/{path}", headers=headers, **options)
            except requests.RequestException:
                check_servers_soon()
                raise

    def submit(self, entrypoint: str, **fields: Any) -> str:
        """Submit a job and return its id; ``fields`` are those of Ray's submit call."""
        response = self.request("POST", "jobs/", json={"entrypoint": entrypoint, **fields})
        if not response.ok:
            raise AssertionError(f"submit: {response.status_code} {response.text}")
        return str(response.json()["submission_id"])

    def run(self, lookup: str, action: str, params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Run an action of a plugin and return the agent's response; ``fields`` are those of the request body."""
        body = {"action": action, "params": params or {}, **fields}
        response = self.request("POST", f"plugin_releases/{lookup}/run/", json=body)
        if not response.ok:
            raise AssertionError(f"run: {response.status_code} {response.text}")
        answer: dict[str, Any] = response.json()
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the details of a job."""
        return wait_until(lambda: self._details(job_id), f"no details of job {job_id}")

    def wait(self, job_id: str, statuses: Sequence[str] = TERMINAL) -> dict[str, Any]:
        """Wait until the job has one of ``statuses``; return its details."""

        def details_if_reached() -> dict[str, Any] | None:
            details = self._details(job_id)
            return details if details and details["status"] in statuses else None

        return wait_until(details_if_reached, f"job {job_id} is in none of {statuses}")

    def _details(self, job_id: str) -> dict[str, Any] | None:
        """Return a job's details, None if Ray does not respond; if it has died, the agent exits soon."""
        response = self.request("GET", f"jobs/{job_id}/")
        if response.status_code == 503:
            return None
        response.raise_for_status()
        details: dict[str, Any] = response.json()
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
    """Start the local agent as a process, wait until it is ready, yield it, and stop it with its Ray.

    :param arguments: additional arguments for ``rayagent-local``.
    :param plugins: plugin folder; ``None``: no plugins.
    :param max_running_jobs: maximum number of plugin jobs on Ray; ``None``: the command's default.
    :param python: a Python with this package and its extra ``local``.
    :param environment: environment of the agent; ``None``: that of this process.
    """
    with tempfile.TemporaryDirectory(prefix="rayagent-") as directory:
        info, output = Path(directory, "agent.json"), Path(directory, "agent.log")
        options = {"--info-file": info, "--plugins": plugins, "--max-running-jobs": max_running_jobs}
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]

        def start() -> subprocess.Popen[bytes]:
            return start_agent(*words, *arguments, output=output, python=python, cwd=cwd, environment=environment)

        process = start()
        try:
            while not is_ready(info, process, output):
                process = start()
            watch("the local agent", process, output)
            yield LocalAgent(**json.loads(info.read_text(encoding="utf-8")), output=output)
        finally:
            unwatch(process)
            stop_agent(process, patience=STOP_TIMEOUT)


def start_agent(
    *arguments: str,
    output: Path,
    python: str = sys.executable,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``rayagent-local`` in its own session, with its output in a file.

    :param environment: environment of the agent; ``None``: that of this process.
    """
    with output.open("ab") as stream:
        return subprocess.Popen(
            [python, "-m", "airflow_provider_rayagent.local.cli", "--start-timeout", str(int(PATIENCE)), *arguments],
            cwd=cwd,
            env={**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def wait_for_file(path: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the agent has written its info file.

    :raises ServerDiedError: with its output, if it exited.
    """
    watch("the local agent", process, output)
    try:
        wait_until(lambda: path.exists() or None, lambda: f"the local agent is not ready:\n{tail(output)}\n")
    finally:
        unwatch(process)


def is_ready(info: Path, process: subprocess.Popen[bytes], output: Path) -> bool:
    """Wait until the agent has written its info file; return whether it has, or has to be started again.

    It has to if a raylet gave up (:data:`~tests.stack.ray.IMPATIENT`).

    :raises ServerDiedError: with its output, if it exited for another reason.
    """
    try:
        wait_for_file(info, process, output)
    except ServerDiedError:
        text = output.read_text(errors="replace")
        if "Ray exited during startup" not in text or "  raylet has ended." not in text:
            raise
        output.write_bytes(b"")
        return False
    return True


def stop_agent(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, *, patience: float = PATIENCE) -> int:
    """Stop the agent and return its exit code; kill it after ``patience`` seconds."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
